"""The comparison of architectures."""

import numpy as np
import pytest
from toys import toy_battles, toy_evidence

from arena.run import Run
from meta.compare import (
    HYBRID,
    architecture,
    figures,
    nested_sets,
    sets_to_compare,
    stage_one_costs,
    strengths,
)
from meta.stage import CrossValidation, Settings, folds_for


def test_every_view_has_its_architecture():
    names = ["davidson", "hidden", "lexical", "likelihood", "logits-a", "style", "verdict-b"]
    assert [architecture(n) for n in names] == [
        *("", "frozen", "handcrafted", "frozen"),
        *("fine-tuned", "handcrafted", "frozen"),
    ]


def test_sets_by_hand():
    assert sets_to_compare(["hidden", "logits-a", "style"]) == {
        "handcrafted": ("style",),
        "frozen": ("hidden",),
        "fine-tuned": ("logits-a",),
        "handcrafted + frozen": ("style", "hidden"),
        "handcrafted + fine-tuned": ("style", "logits-a"),
        "frozen + fine-tuned": ("hidden", "logits-a"),
        "hybrid without hidden": ("logits-a", "style"),
        "hybrid without logits-a": ("hidden", "style"),
        "hybrid without style": ("hidden", "logits-a"),
        "hybrid": ("hidden", "logits-a", "style"),
    }
    assert sets_to_compare(["style"]) == {"handcrafted": ("style",), "hybrid": ("style",)}


def test_both_parts_of_the_planted_signal_are_missed_where_they_are_left_out(tmp_path):
    evidence = toy_evidence(300)
    cv = CrossValidation(evidence, folds_for(evidence, 4), Run(tmp_path))
    table, gaps = nested_sets(cv, Settings(4, 0, 1))
    labels = evidence.battles["label"].to_numpy(dtype=int)
    found = figures(table.probabilities, labels, evidence.battles["group"].to_numpy())
    assert set(found) == set(gaps) == set(sets_to_compare(["hidden", "style"]))
    for name in ("hybrid without style", "hybrid without hidden"):
        assert found[name]["interval"][0] > 0, name
    # Without style is hidden alone, which is all that is frozen here.
    same = table.probabilities["hybrid without style"]
    assert np.array_equal(same, table.probabilities["frozen"])
    assert max(gaps.values()) < 1e-9


def test_what_each_gets_right_alone_by_hand():
    battles = toy_battles(400, np.random.default_rng(0))
    labels = np.array([0, 1] * 200)
    sure, even = np.array([0.8, 0.1, 0.1]), np.array([0.2, 0.2, 0.6])
    # The first is right on all A, the second on the first quarter of the rows, whoever won.
    first = np.where((labels == 0)[:, None], sure, even)
    early = (np.arange(400) < 100)[:, None]
    second = np.where(early, np.where((labels == 0)[:, None], sure, sure[[1, 0, 2]]), even)
    p = {"handcrafted": first, "frozen": second, HYBRID: first}
    found = strengths(p, labels, battles["group"].to_numpy(), battles)
    assert found["handcrafted"]["right"] == pytest.approx(0.5)
    assert found["frozen"]["right"] == pytest.approx(0.25)
    assert found["handcrafted"]["right_alone"] == pytest.approx(150 / 400)
    assert found["frozen"]["right_alone"] == pytest.approx(50 / 400)
    slices = {s["slice"] for s in found["handcrafted"]["best_slices"]}
    assert "winner: A won" in slices
    assert not any("B won" in s for s in slices)


def test_a_hit_of_two_equal_classes_counts_half():
    battles = toy_battles(4, np.random.default_rng(0))
    level, sure = np.tile([0.4, 0.4, 0.2], (4, 1)), np.tile([0.8, 0.1, 0.1], (4, 1))
    labels = np.array([0, 1, 0, 1])
    found = strengths(
        {"handcrafted": level, "frozen": sure, HYBRID: sure}, labels, np.arange(4), battles
    )
    assert (found["handcrafted"]["right"], found["handcrafted"]["right_alone"]) == (0.5, 0.25)
    assert (found["frozen"]["right"], found["frozen"]["right_alone"]) == (0.5, 0.25)


def test_costs_of_stage_one_come_from_the_record():
    record = {
        "seconds": {"style_train": 5.0, "finetune_logits-a": 30.0, "style_test": 9.0},
        "peak_mib": {"style_train": 700, "style_test": 900},
    }
    assert stage_one_costs(record, ["style", "logits-a"], 500) == {
        "handcrafted": {"seconds": 5.0, "seconds_per_1000_rows": 10.0, "peak_mib": 700},
        "fine-tuned": {"seconds": 30.0, "seconds_per_1000_rows": 60.0},
        "hybrid": {"seconds": 35.0, "seconds_per_1000_rows": 70.0, "peak_mib": 700},
    }
    assert stage_one_costs({}, ["style"], 500) == {}
