"""The comparison of architectures."""

from dataclasses import replace

import numpy as np
import pytest

from arena.view import KINDS
from common.run_dir import RunDir
from meta.ablation import (
    HYBRID,
    figures,
    forecasts,
    nested_sets,
    sets_of,
    stage_one_costs,
    strengths,
    variants,
)
from meta.base_models.davidson import Davidson
from meta.stack.nested_cv import CrossValidation, Settings, folds_for
from tests.helpers.toys import toy_battles, toy_evidence


def kinds_of(*names):
    return {name: KINDS[name.partition("-")[0]] for name in names}


def test_sets_by_hand():
    assert sets_of(kinds_of("hidden", "logits-a", "style")) == {
        "handcrafted": ("style",),
        "frozen": ("hidden",),
        "fine-tuned": ("logits-a",),
        "handcrafted + frozen": ("style", "hidden"),
        "handcrafted + fine-tuned": ("style", "logits-a"),
        "frozen + fine-tuned": ("hidden", "logits-a"),
        "hybrid": ("hidden", "logits-a", "style"),
    }
    assert sets_of(kinds_of("style")) == {"handcrafted": ("style",), "hybrid": ("style",)}


def with_davidson(evidence):
    learned = {**evidence.base_models, "davidson": Davidson(evidence.tables)}
    return replace(evidence, base_models=learned)


def test_what_is_left_out_is_not_in_what_others_learn_from_either(tmp_path):
    evidence = with_davidson(toy_evidence(60))
    (_, every), *left_out = variants(evidence)
    assert every == sets_of(kinds_of("davidson", "hidden", "style"))
    assert left_out == [
        ("davidson", {"hybrid without davidson": ("hidden", "style")}),
        ("hidden", {"hybrid without hidden": ("davidson", "style")}),
        # Davidson's model had nothing but style to learn from.
        ("style", {"hybrid without style": ("hidden",)}),
    ]
    style = evidence.tables["style"]
    two = Davidson({"style": style, "more": style})
    less = replace(evidence, tables=two.tables, base_models={"davidson": two}).without("style")
    assert less.names == ["davidson", "more"]
    assert {name.split(".")[0] for name in less.base_models["davidson"].design.columns} == {"more"}


def test_what_never_knew_a_view_is_not_fitted_again_without_it(tmp_path):
    evidence = with_davidson(toy_evidence(60))
    both = {"style": evidence.tables["style"], "more": evidence.tables["style"]}
    evidence = replace(
        evidence, tables=both, base_models={**evidence.base_models, "davidson": Davidson(both)}
    )
    cv = CrossValidation(evidence, folds_for(evidence, 4), RunDir(tmp_path))
    less = cv.without("more")
    assert less.fits["hidden"] is cv.fits["hidden"]
    assert less.fits["davidson"].evidence is less.dataset.base_models["davidson"]
    assert set(cv.without("davidson").fits) == {"hidden"}


def test_test_battles_are_forecast_by_every_set_with_its_own_evidence(tmp_path):
    evidence = with_davidson(toy_evidence(120))
    cv = CrossValidation(evidence, folds_for(evidence, 4), RunDir(tmp_path))
    predictions = forecasts(cv, Settings(4, 0, 1), with_davidson(toy_evidence(20, seed=1)))
    assert set(predictions) == {name for _, sets in variants(evidence) for name in sets}
    assert all(p.shape == (20, 3) and np.allclose(p.sum(axis=1), 1) for p in predictions.values())
    # Without style nothing of it is left, so that what is frozen is all there is.
    assert np.array_equal(predictions["hybrid without style"], predictions["frozen"])
    assert not np.array_equal(predictions["hybrid without hidden"], predictions[HYBRID])


def test_both_parts_of_the_planted_signal_are_missed_where_they_are_left_out(tmp_path):
    evidence = toy_evidence(300)
    cv = CrossValidation(evidence, folds_for(evidence, 4), RunDir(tmp_path))
    predictions, gaps = nested_sets(cv, Settings(4, 0, 1))
    labels = evidence.battles["label"].to_numpy(dtype=int)
    scores = figures(predictions.probabilities, labels, evidence.battles["group"].to_numpy())
    assert set(scores) == set(gaps) == {name for _, sets in variants(evidence) for name in sets}
    for name in ("hybrid without style", "hybrid without hidden"):
        assert scores[name]["interval"][0] > 0, name
    # Without style is hidden alone, which is all that is frozen here.
    same = predictions.probabilities["hybrid without style"]
    assert np.array_equal(same, predictions.probabilities["frozen"])
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
    by_kind = strengths(p, labels, battles["group"].to_numpy(), [battles])
    assert by_kind["handcrafted"]["right"] == pytest.approx(0.5)
    assert by_kind["frozen"]["right"] == pytest.approx(0.25)
    assert by_kind["handcrafted"]["right_alone"] == pytest.approx(150 / 400)
    assert by_kind["frozen"]["right_alone"] == pytest.approx(50 / 400)


def test_slices_where_one_is_surely_best_are_of_the_battle_and_not_of_its_winner():
    battles = toy_battles(400, np.random.default_rng(0))
    long = np.arange(400) < 200
    battles["response_a"] = [["a" * (3_000 if is_long else 30)] for is_long in long]
    labels = np.array([0, 1] * 200)
    right, even = np.eye(3)[labels] * 0.7 + 0.1, np.full((400, 3), 1 / 3)
    p = {
        "handcrafted": np.where(long[:, None], right, even),
        "frozen": np.where(long[:, None], even, right),
    }
    by_kind = strengths(p, labels, battles["group"].to_numpy(), [battles])
    of = {kind: {s["slice"] for s in by_kind[kind]["best_slices"]} for kind in p}
    assert any(name.startswith("length: ") for name in of["handcrafted"])
    assert any(name.startswith("length: ") for name in of["frozen"])
    assert not of["handcrafted"] & of["frozen"]
    # Who always says B is best where B won, which tells nothing of it.
    p["frozen"] = np.tile([0.1, 0.8, 0.1], (400, 1))
    by_kind = strengths(p, labels, battles["group"].to_numpy(), [battles])
    assert not any(s["slice"].startswith("winner") for s in by_kind["frozen"]["best_slices"])


def test_a_hit_of_two_equal_classes_counts_half():
    battles = toy_battles(4, np.random.default_rng(0))
    level, sure = np.tile([0.4, 0.4, 0.2], (4, 1)), np.tile([0.8, 0.1, 0.1], (4, 1))
    labels = np.array([0, 1, 0, 1])
    by_kind = strengths(
        {"handcrafted": level, "frozen": sure, HYBRID: sure}, labels, np.arange(4), [battles]
    )
    assert (by_kind["handcrafted"]["right"], by_kind["handcrafted"]["right_alone"]) == (0.5, 0.25)
    assert (by_kind["frozen"]["right"], by_kind["frozen"]["right_alone"]) == (0.5, 0.25)


def test_costs_of_stage_one_come_from_the_record():
    record = {
        "seconds": {"style_train": 5.0, "finetune_logits-a": 30.0, "style_test": 9.0},
        "peak_mib": {"style_train": 700, "style_test": 900},
    }
    assert stage_one_costs(record, kinds_of("style", "logits-a"), 500) == {
        "handcrafted": {"seconds": 5.0, "seconds_per_1000_rows": 10.0, "peak_mib": 700},
        "fine-tuned": {"seconds": 30.0, "seconds_per_1000_rows": 60.0},
        "hybrid": {"seconds": 35.0, "seconds_per_1000_rows": 70.0, "peak_mib": 700},
    }
    # What the frozen model reads for other views is its cost too, where they are fused.
    record = {"seconds": {"language_model_train": 9.0, "joint": 20.0, "verdict-a": 70.0}}
    for names, total in ((["hidden"], 9), (["hidden", "joint"], 29), (["joint", "verdict-a"], 90)):
        assert stage_one_costs(record, kinds_of(*names), 500)["frozen"]["seconds"] == total
    assert stage_one_costs({}, kinds_of("style"), 500) == {}
