"""The summary of a calibration names what is kept and why."""

import numpy as np

from meta.calibration import CalibrationResult
from meta.calibrators import CALIBRATORS
from meta.report.calibration import summary


def result_of(kept, *methods):
    """100 labelled rows, all forecast .5, .25, .25, half of them won by A and the others tied."""
    p = np.tile([0.5, 0.25, 0.25], (100, 1))
    out_of_fold = dict.fromkeys(("none", *methods), p)
    labels = np.repeat([0, 2], 50)
    return CalibrationResult(p, CALIBRATORS[kept](), out_of_fold, labels, np.arange(100))


def test_figures_by_hand():
    lines = summary(result_of("none")).splitlines()
    assert lines[0] == "100 rows, 100 with a label, in 100 groups"
    # A and tie each half: (ln 2 + ln 4) / 2, and |0|, |.25|, |-.25| of the three classes.
    assert lines[2].split() == ["none", "1.0397", "0.1667"]
    assert lines[4].split() == ["winner_model_a", "0.5000", "0.5000", "0.5000"]
    assert lines[-1].startswith("no method gains more than 0.0001")


def test_coefficients_of_the_kept_method_are_named():
    lines = summary(result_of("bcts", "bcts")).splitlines()
    assert lines[-2].startswith("kept: bcts, log loss 1.0397 before, 1.0397 after")
    assert lines[-1] == "side 1  tie 1  both 1  bias 0  lean 0"


def test_a_position_bias_is_named_unless_an_asymmetric_method_is_compared():
    # P(A) - P(B) is .25, that of the labels .5.
    told = "the forecasts favour B over A by 0.250 more than the labels: --asymmetric"
    assert told in summary(result_of("none")).splitlines()
    assert told not in summary(result_of("none", "lean"))
