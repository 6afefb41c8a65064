"""Checks of sanity, each on a case with that fault."""

from dataclasses import replace

import numpy as np
import pytest

from arena.folds import fold_of
from tests.helpers.audit_toys import (
    check,
    forecast,
    side_of,
    tie_of,
    toy_case,
    with_column,
    with_meta,
)


def test_c01_sees_a_forecast_that_is_worse_than_the_prior(case):
    rng = np.random.default_rng(0)
    assert check("C01", with_meta(case, rng.dirichlet([1, 1, 1], 1200))).verdict == "fail"
    result = check("C01", with_meta(case, case.probabilities["length"]))
    assert result.verdict == "fail"
    assert "is not shown" in result.sentence


def test_c03_sees_a_swap_gap(case):
    assert check("C03", replace(case, swap_gap=1e-5)).verdict == "fail"
    assert check("C03", replace(case, swap_gap=float("nan"))).verdict == "fail"


@pytest.mark.parametrize("name", ["style.sym", "style.anti", "style.left"])
def test_c11_sees_the_label_as_a_feature(case, name):
    noise = np.random.default_rng(0).normal(0, 0.05, 1200)
    kind = {"style.sym": [0, 0, 1], "style.anti": [1, -1, 0], "style.left": [9, -9, 0]}[name]
    result = check("C11", with_column(case, name, np.array(kind)[case.labels] + noise))
    assert result.verdict == "fail"
    assert result.figure > 0.99
    assert name in result.sentence
    assert "vote got into it" in result.sentence


def test_c11_sees_a_column_that_beats_the_whole(case):
    result = check("C11", with_meta(case, case.probabilities["prior"]))
    assert result.verdict == "fail"
    assert "beats meta" in result.sentence


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
        test_texts=larger.texts,
        test_design=larger.design,
    )
    assert check("C08", part).verdict == "pass"
    uniform = with_meta(part, np.full((len(rows), 3), 1 / 3))
    assert check("C11", uniform).verdict == "fail"
    assert "beats meta" in check("C11", uniform).sentence


def test_c14_sees_too_few_groups_one_large_group_and_uneven_folds(case):
    few = toy_case(200, test=0)
    assert check("C14", few).verdict == "fail"
    one = case.battles.assign(group=["f" * 16] * 400 + case.battles["group"].tolist()[400:])
    assert "one prompt group" in check("C14", replace(case, battles=one)).sentence
    uneven = replace(case, folds=np.where(np.arange(1200) < 30, 0, 1))
    assert "uneven" in check("C14", uneven).sentence


def test_c16_sees_a_whole_that_is_worse_than_a_part(case):
    worse = with_meta(case, forecast(3 * side_of(case), tie_of(case)))
    result = check("C16", worse)
    assert result.verdict == "fail"
    assert "meta_uncalibrated" in result.sentence


def test_c17_sees_a_wrong_parity(case):
    side = np.array([1.0, -1.0, 0.0])[case.labels] + np.random.default_rng(0).normal(size=1200)
    assert check("C17", with_column(case, "style.sym", side)).verdict == "fail"
    tie = (case.labels == 2) + np.random.default_rng(0).normal(size=1200)
    assert check("C17", with_column(case, "style.anti", tie)).verdict == "fail"
