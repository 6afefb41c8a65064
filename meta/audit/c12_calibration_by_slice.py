"""Calibration by slice: does the forecast hold for every kind of battle?

In each slice of enough battles two things are tested: the mean gap between forecast and votes of
each class, by its clustered error, and the class-wise ECE against what a calibrated forecast would
show (``meta.metrics.scores.ece_by_chance``). All the tests together raise a false alarm in one
audit of a hundred (Bonferroni). A slice fails where a test is significant and its gap is at least
.02, which costs about .001 nats. Figure: the largest gap, or excess of ECE, among failing slices,
else among all; threshold .02.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from arena.schema import TIE
from meta.audit.context import AuditContext, Result, not_applicable
from meta.metrics.scores import classwise_ece, clustered, ece_by_chance
from meta.metrics.slices import OUTCOMES, WINNER

ROWS, GROUPS = 100, 40
"""A slice with fewer battles or prompt groups is not tested: its sums are not normal yet."""

MATTERS = 0.02
LEVEL = 0.01
NAMED = 3
"""Failing slices that the sentence names."""


@dataclass(frozen=True)
class _Gap:
    """A gap between forecast and votes, and how sure it is."""

    what: str
    gap: float
    z: float
    interval: tuple[float, float]


def check(case: AuditContext) -> Result:
    """Test every slice of every family that does not know the vote."""
    tests = [
        test
        for family, names in case.slices.items()
        if family != WINNER
        for name in np.unique(names)
        for test in _gaps(case, np.flatnonzero(names == name), f"{family}: {name}")
    ]
    if not tests:
        return not_applicable(f"No slice has {ROWS} battles of {GROUPS} prompt groups.")
    critical = norm.isf(LEVEL / (2 * len(tests)))
    failed = [test for test in tests if abs(test.z) > critical and abs(test.gap) >= MATTERS]
    ranked = sorted(failed or tests, key=lambda test: -abs(test.gap))
    worst = ranked[0]
    tie_gap, tie_error = clustered(case.meta[:, TIE] - (case.votes == TIE), case.groups)
    slices = len({test.what for test in tests if test.what.endswith("ECE")})
    if failed:
        named = "; ".join(_describe(test) for test in ranked[:NAMED])
        meaning = (
            f"Off by more than chance and more than {MATTERS}: {len(failed)}, worst {named}. "
            "Do not trust probabilities there: give the model a column that tells these battles "
            "apart, or calibrate them on their own."
        )
    else:
        meaning = (
            f"None is off by more than chance and more than {MATTERS}; the largest is "
            f"{_describe(worst)}. Overall, forecast ties are {100 * tie_gap:+.1f} points off "
            f"(95% interval ±{196 * tie_error:.1f})."
        )
    return Result(
        "fail" if failed else "pass",
        f"{len(tests)} gaps and calibration errors of {slices} slices were tested. {meaning}",
        worst.gap,
        MATTERS,
        worst.interval,
    )


def _gaps(case: AuditContext, rows: np.ndarray, name: str) -> list[_Gap]:
    """The three mean gaps of a slice and its ECE, none where it is too small."""
    groups = case.groups[rows]
    if len(rows) < ROWS or len(np.unique(groups)) < GROUPS:
        return []
    forecast, votes = case.meta[rows], case.votes[rows]
    tests = []
    for c, outcome in enumerate(OUTCOMES):
        gap, error = clustered(forecast[:, c] - (votes == c), groups)
        # Of a class that hardly occurs the residuals all but vanish, and so would their error.
        rate = float(forecast[:, c].mean())
        error = max(error, float(np.sqrt(rate * (1 - rate) / len(rows)) / 2))
        tests.append(_gap(f"{name}, {outcome}", gap, error))
    expected, deviation = ece_by_chance(forecast, votes, groups)
    excess = classwise_ece(forecast, votes) - expected
    # Only a larger error than chance's is a fault.
    tests.append(_gap(f"{name}, ECE", excess if excess > 0 else 0.0, deviation))
    return tests


def _gap(what: str, gap: float, error: float) -> _Gap:
    error = max(error, 1e-12)
    return _Gap(what, gap, gap / error, (gap - 1.96 * error, gap + 1.96 * error))


def _describe(test: _Gap) -> str:
    low, high = test.interval
    if test.what.endswith("ECE"):
        return f"{test.what} {test.gap:.3f} above chance"
    return (
        f"{test.what} forecast {100 * test.gap:+.1f} points off (95% interval {100 * low:+.1f} to "
        f"{100 * high:+.1f})"
    )
