import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from arena.feature_table import Column, FeatureTable
from arena.folds import fold_of
from meta.audit import checks, run
from meta.audit.lean import length_ratio
from meta.base_models import BASE_MODELS
from meta.metrics.scores import log_loss
from tests.helpers.audit_toys import (
    COLUMN,
    COLUMNS,
    forecast,
    side_of,
    tie_of,
    toy_case,
    with_column,
    with_meta,
    with_names,
)


@pytest.fixture(scope="module")
def case():
    return toy_case(seed=4)


@pytest.fixture(scope="module")
def larger():
    return toy_case(3000, seed=1, test=0)


def check(code, case):
    return checks()[code][1](case)


def test_a_sound_case_passes_every_check(case):
    found = run(case)
    assert [f.code for f in found] == [f"C{i:02}" for i in range(1, 18)]
    verdicts = {f.code: f.verdict for f in found}
    assert verdicts.pop("C10") == "not applicable"
    assert set(verdicts.values()) == {"pass"}, [f for f in found if f.verdict == "fail"]
    judged = [f for f in found if f.verdict != "not applicable"]
    assert all(f.figure is not None and f.threshold is not None for f in judged)
    assert found == run(case)


def test_findings_are_json(case):
    for f in run(case):
        text = json.dumps(asdict(f), allow_nan=False)
        assert json.loads(text)["code"] == f.code
        assert f.sentence.endswith(".")
        assert "nan" not in f.sentence


@pytest.mark.parametrize("n", [1, 2, 30])
@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 1], [2]])
def test_tiny_cases_and_missing_classes_do_not_crash(n, classes):
    tiny = toy_case(n, test=n)
    tiny = replace(tiny, labels=np.resize(classes, n))
    for f in run(tiny):
        json.dumps(asdict(f), allow_nan=False)
        assert "nan" not in f.sentence


def test_without_test_battles_nothing_is_said_of_them(case):
    alone = replace(case, test_battles=None, test_design=None)
    assert check("C08", alone).verdict == check("C09", alone).verdict == "not applicable"


def test_parts_of_different_battles_are_refused(case):
    with pytest.raises(ValueError, match="not of the scored"):
        replace(case, design=case.design.take(np.arange(1199, -1, -1)))
    with pytest.raises(ValueError, match="finite"):
        with_meta(case, np.full((1200, 3), np.nan))
    with pytest.raises(ValueError, match="labels"):
        replace(case, labels=case.labels[1:])
    with pytest.raises(ValueError, match="belong together"):
        replace(case, test_design=None)


def test_rows_scored_need_not_be_all(case):
    rows = np.arange(0, 1200, 2)
    part = replace(
        case,
        rows=rows,
        design=case.design.take(rows),
        probabilities={k: p[rows] for k, p in case.probabilities.items()},
    )
    assert {f.code for f in run(part) if f.verdict == "fail"} <= {"C14"}


def test_c01_sees_a_forecast_that_is_worse_than_the_prior(case):
    rng = np.random.default_rng(0)
    assert check("C01", with_meta(case, rng.dirichlet([1, 1, 1], 1200))).verdict == "fail"
    found = check("C01", with_meta(case, case.probabilities["length"]))
    assert found.verdict == "fail"
    assert "is not shown" in found.sentence


def test_c02_sees_a_file_that_puts_the_better_answer_first(case):
    labels = np.where(case.labels == 1, 0, case.labels)
    found = check("C02", replace(case, labels=labels, one_order=case.meta))
    assert found.verdict == "fail"
    assert found.figure == pytest.approx((labels == 0).mean())
    assert "before both orders" in found.sentence


def test_c03_sees_a_swap_gap(case):
    assert check("C03", replace(case, swap_gap=1e-5)).verdict == "fail"
    assert check("C03", replace(case, swap_gap=float("nan"))).verdict == "fail"


def test_c04_sees_a_model_that_overweights_length(case):
    biased = with_meta(case, forecast(side_of(case, length=0.7), tie_of(case)))
    found = check("C04", biased)
    assert found.verdict == "fail"
    assert found.figure == pytest.approx(0.35, abs=0.15)
    cautious = check("C04", with_meta(case, forecast(side_of(case, length=0.0), tie_of(case))))
    assert cautious.verdict == "pass"
    assert "unused" in cautious.sentence


def test_c04_is_not_misled_by_quality_that_goes_along_with_length(larger):
    """Humans lean on x, which correlates with length: their slope on length is real too."""
    x = length_ratio(larger) + np.random.default_rng(2).normal(size=3000)
    moved = with_column(larger, "style.anti", x)
    truth = forecast(side_of(moved), tie_of(moved))
    drawn = np.log(truth) + np.random.default_rng(3).gumbel(size=truth.shape)
    found = check("C04", with_meta(replace(moved, labels=drawn.argmax(axis=1)), truth))
    assert found.verdict == "pass"


@pytest.mark.parametrize(
    ("code", "family"), [("C05", "formatting"), ("C06", "self_promotion"), ("C07", "refusal")]
)
def test_c05_to_c07_see_a_model_that_leans_on_their_signals(case, code, family):
    side = side_of(case, **{family: -0.6})
    found = check(code, with_meta(case, forecast(side, tie_of(case))))
    assert found.verdict == "fail"
    weight = 0.6 if family == "refusal" else 0.6 * np.log(2)
    assert found.figure == pytest.approx(weight, abs=0.2)
    columns = {"other": COLUMNS["style.anti"]}
    other = FeatureTable(case.design.ids, np.zeros((1200, 1)), columns)
    assert check(
        code, replace(case, design=other, test_design=None, test_battles=None)
    ).verdict == ("not applicable")


def test_c08_sees_a_drifted_column_and_names_it(case):
    values = case.test_design.values.copy()
    values[:, COLUMN["style.sym"]] += 1.5
    moved = FeatureTable(case.test_design.ids, values, COLUMNS)
    found = check("C08", replace(case, test_design=moved))
    assert found.verdict == "fail"
    assert "distance: style.sym" in found.sentence
    few = replace(case, test_battles=case.test_battles[:20], test_design=moved.take(np.arange(20)))
    assert check("C08", few).verdict == "not applicable"


@pytest.mark.parametrize("view", [*BASE_MODELS, "logits-smollm2-135m"])
def test_c08_leaves_out_views_that_saw_votes(case, view):
    column = {f"{view}.side": Column("anti")}
    design, test = (
        FeatureTable(
            v.ids, np.column_stack([v.values, np.full(len(v.ids), x)]), {**COLUMNS, **column}
        )
        for v, x in ((case.design, 0.0), (case.test_design, 9.0))
    )
    found = check("C08", replace(case, design=design, test_design=test))
    assert found == check("C08", case)


def test_c09_sees_prompts_and_pairs_of_the_training_file(case):
    test = case.test_battles.copy()
    test.loc[0, "prompt"] = [["  question NUMBER 7"]]
    for one, other in (("response_a", "response_b"), ("response_b", "response_a")):
        test[one] = [case.battles[other][5], *test[one][1:]]
    found = check("C09", replace(case, test_battles=test))
    assert (found.verdict, found.figure) == ("pass", pytest.approx(1 / 300))
    test["prompt"] = [["Question number 7"]] * 30 + test["prompt"].tolist()[30:]
    found = check("C09", replace(case, test_battles=test))
    assert (found.verdict, found.figure) == ("fail", pytest.approx(0.1))
    assert "30 by their prompt, 1 by their pair" in found.sentence


def twins(case, same):
    """The case with its first 100 battles once more, swapped, with the same vote or another."""
    extra = case.battles[:100].rename(
        columns={"response_a": "response_b", "response_b": "response_a"}
    )
    vote = np.array([1, 0, 2])[case.labels[:100]]
    table = pd.concat([case.battles, extra], ignore_index=True)
    return replace(
        case,
        battles=with_names(table),
        labels=np.concatenate([case.labels, vote if same else (vote + 1) % 3]),
        folds=None,
    )


def test_c10_compares_votes_of_swapped_twins_in_one_order(case):
    found = check("C10", twins(case, same=True))
    assert (found.verdict, found.figure) == ("pass", 0.0)
    found = check("C10", twins(case, same=False))
    assert (found.verdict, found.figure) == ("fail", pytest.approx(200 / 1300))
    assert "differ in 100% of the pairs" in found.sentence


def test_c10_bounds_the_log_loss_from_below():
    """Votes drawn from .5, .3, .2: the bound lies below the entropy, and not far below."""
    small = toy_case(60, test=0)
    table = pd.concat([small.battles, *[small.battles[:1]] * 1999], ignore_index=True)
    votes = np.random.default_rng(0).choice(3, 2000, p=[0.5, 0.3, 0.2])
    labels = np.concatenate([votes[:1], small.labels[1:], votes[1:]])
    sentence = check("C10", replace(small, battles=table, labels=labels, folds=None)).sentence
    assert "interval" not in sentence  # all twins are of one group
    bound = float(sentence.split("log loss below ")[1].split()[0].rstrip("."))
    entropy = log_loss(np.tile([0.5, 0.3, 0.2], (2000, 1)), votes)
    assert entropy - 0.1 < bound < entropy


@pytest.mark.parametrize("name", ["style.sym", "style.anti", "style.left"])
def test_c11_sees_the_label_as_a_feature(case, name):
    noise = np.random.default_rng(0).normal(0, 0.05, 1200)
    kind = {"style.sym": [0, 0, 1], "style.anti": [1, -1, 0], "style.left": [9, -9, 0]}[name]
    found = check("C11", with_column(case, name, np.array(kind)[case.labels] + noise))
    assert found.verdict == "fail"
    assert found.figure > 0.99
    assert name in found.sentence
    assert "vote got into it" in found.sentence


def test_c11_sees_a_column_that_beats_the_whole(case):
    found = check("C11", with_meta(case, case.probabilities["prior"]))
    assert found.verdict == "fail"
    assert "beats the whole" in found.sentence


@pytest.mark.parametrize("folds", [3, 5])
def test_rows_that_share_a_fold_are_cross_fitted_all_the_same(larger, folds):
    """Where battles are many, one fold of them is scored."""
    rows = np.flatnonzero(fold_of(larger.groups, folds) == 0)
    part = replace(
        larger,
        rows=rows,
        design=larger.design.take(rows),
        probabilities={k: p[rows] for k, p in larger.probabilities.items()},
        test_battles=larger.battles,
        test_design=larger.design,
    )
    assert check("C08", part).verdict == "pass"
    uniform = with_meta(part, np.full((len(rows), 3), 1 / 3))
    assert check("C11", uniform).verdict == "fail"
    assert "beats the whole" in check("C11", uniform).sentence


def test_c12_sees_a_slice_that_is_off_and_names_it(larger):
    assert check("C12", larger).verdict == "pass"
    off = larger.meta.copy()
    rows = larger.slices["length"] == "under 300 characters"
    off[rows] += [-0.05, -0.05, 0.1]
    found = check("C12", with_meta(larger, np.clip(off, 0.01, 0.98)))
    assert found.verdict == "fail"
    assert "length: under 300 characters, tie" in found.sentence


def test_c12_sees_certainty_without_a_gap_of_the_means(larger):
    sharp = forecast(4 * side_of(larger), tie_of(larger))
    found = check("C12", with_meta(larger, sharp))
    assert found.verdict == "fail"
    assert "ECE" in found.sentence


def test_c12_raises_few_false_alarms():
    verdicts = [check("C12", toy_case(800, seed=s, test=0)).verdict for s in range(12)]
    assert verdicts.count("fail") <= 2


def test_c13_sees_a_wrong_tie_rate(case):
    found = check("C13", with_meta(case, forecast(side_of(case), tie_of(case) + 0.8)))
    assert found.verdict == "fail"
    assert found.figure > 0.1


def test_c14_sees_too_few_groups_one_large_group_and_uneven_folds(case):
    few = toy_case(200, test=0)
    assert check("C14", few).verdict == "fail"
    one = case.battles.assign(group=["f" * 16] * 400 + case.battles["group"].tolist()[400:])
    assert "one prompt group" in check("C14", replace(case, battles=one)).sentence
    uneven = replace(case, folds=np.where(np.arange(1200) < 30, 0, 1))
    assert "uneven" in check("C14", uneven).sentence


def test_c15_sees_dead_views_lost_columns_and_infinities(case):
    constant = with_column(case, "style.sym", 3.0)
    found = check("C15", constant)
    assert (found.verdict, found.figure, found.threshold) == ("pass", 0, 0)
    assert f"1 of {len(COLUMNS)} columns" in found.sentence
    assert "style.sym" in found.sentence
    zeros = FeatureTable(case.design.ids, np.zeros_like(case.design.values), COLUMNS)
    assert "view style is dead" in check("C15", replace(case, design=zeros)).sentence
    lost = case.test_design.values.copy()
    lost[:, COLUMN["style.sym"]] = np.nan
    test = FeatureTable(case.test_design.ids, lost, COLUMNS)
    assert "style.sym is missing in test" in check("C15", replace(case, test_design=test)).sentence
    found = check("C15", with_column(case, "style.sym", np.inf))
    assert (found.verdict, found.figure) == ("fail", 1)


def test_c15_lets_a_column_be_defined_for_few_prompts(case):
    few = np.full(1200, np.nan)
    few[:2] = 1.0
    values = case.test_design.values.copy()
    values[:, COLUMN["style.sym"]] = np.nan
    test = FeatureTable(case.test_design.ids, values, COLUMNS)
    rare = replace(with_column(case, "style.sym", few), test_design=test)
    assert check("C15", rare).verdict == "pass"


def test_c16_sees_a_whole_that_is_worse_than_a_part(case):
    worse = with_meta(case, forecast(3 * side_of(case), tie_of(case)))
    found = check("C16", worse)
    assert found.verdict == "fail"
    assert "meta_uncalibrated" in found.sentence


def test_c17_sees_a_wrong_parity(case):
    side = np.array([1.0, -1.0, 0.0])[case.labels] + np.random.default_rng(0).normal(size=1200)
    assert check("C17", with_column(case, "style.sym", side)).verdict == "fail"
    tie = (case.labels == 2) + np.random.default_rng(0).normal(size=1200)
    assert check("C17", with_column(case, "style.anti", tie)).verdict == "fail"
