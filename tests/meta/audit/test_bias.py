"""Checks of bias, each on a case with that bias."""

from dataclasses import replace

import numpy as np
import pytest

from arena.feature_table import FeatureTable
from meta.audit.bias import length_ratio
from tests.helpers.audit_toys import (
    COLUMNS,
    check,
    forecast,
    side_of,
    tie_of,
    with_column,
    with_meta,
)


def test_c02_sees_a_file_that_puts_the_better_answer_first(case):
    labels = np.where(case.labels == 1, 0, case.labels)
    result = check("C02", replace(case, labels=labels, one_order=case.meta))
    assert result.verdict == "fail"
    assert result.figure == pytest.approx((labels == 0).mean())
    assert "before both orders" in result.sentence


def test_c04_sees_a_model_that_overweights_length(case):
    biased = with_meta(case, forecast(side_of(case, length=0.7), tie_of(case)))
    result = check("C04", biased)
    assert result.verdict == "fail"
    assert result.figure == pytest.approx(0.35, abs=0.15)
    cautious = check("C04", with_meta(case, forecast(side_of(case, length=0.0), tie_of(case))))
    assert cautious.verdict == "pass"
    assert "unused" in cautious.sentence


def test_c04_is_not_misled_by_quality_that_goes_along_with_length(larger):
    """People vote by x, which correlates with length: their slope on length is real too."""
    x = length_ratio(larger) + np.random.default_rng(2).normal(size=3000)
    moved = with_column(larger, "style.anti", x)
    truth = forecast(side_of(moved), tie_of(moved))
    drawn = np.log(truth) + np.random.default_rng(3).gumbel(size=truth.shape)
    result = check("C04", with_meta(replace(moved, labels=drawn.argmax(axis=1)), truth))
    assert result.verdict == "pass"


@pytest.mark.parametrize(
    ("code", "family"), [("C05", "formatting"), ("C06", "self_promotion"), ("C07", "refusal")]
)
def test_c05_to_c07_see_a_model_that_overweights_their_signals(case, code, family):
    side = side_of(case, **{family: -0.6})
    result = check(code, with_meta(case, forecast(side, tie_of(case))))
    assert result.verdict == "fail"
    weight = 0.6 if family == "refusal" else 0.6 * np.log(2)
    assert result.figure == pytest.approx(weight, abs=0.2)
    columns = {"other": COLUMNS["style.anti"]}
    other = FeatureTable(case.design.ids, np.zeros((1200, 1)), columns)
    assert check(
        code, replace(case, design=other, test_design=None, test_battles=None, test_texts=None)
    ).verdict == ("not applicable")
