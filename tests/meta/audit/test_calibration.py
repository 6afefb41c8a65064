"""Checks of calibration, each on a forecast that is off."""

import numpy as np

from tests.helpers.audit_toys import check, forecast, side_of, tie_of, toy_case, with_meta


def test_c12_sees_a_slice_that_is_off_and_names_it(larger):
    assert check("C12", larger).verdict == "pass"
    off = larger.meta.copy()
    rows = larger.slices["length"] == "under 300 characters"
    off[rows] += [-0.05, -0.05, 0.1]
    result = check("C12", with_meta(larger, np.clip(off, 0.01, 0.98)))
    assert result.verdict == "fail"
    assert "length: under 300 characters, tie" in result.sentence


def test_c12_sees_certainty_without_a_gap_of_the_means(larger):
    sharp = forecast(4 * side_of(larger), tie_of(larger))
    result = check("C12", with_meta(larger, sharp))
    assert result.verdict == "fail"
    assert "ECE" in result.sentence


def test_c12_raises_few_false_alarms():
    verdicts = [check("C12", toy_case(800, seed=s, test=0)).verdict for s in range(12)]
    assert verdicts.count("fail") <= 2


def test_c13_sees_a_wrong_tie_rate(case):
    result = check("C13", with_meta(case, forecast(side_of(case), tie_of(case) + 0.8)))
    assert result.verdict == "fail"
    assert result.figure > 0.1
