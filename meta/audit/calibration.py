"""Checks of calibration: are the probabilities right, overall and for every kind of battle?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from arena.schema import TIE
from meta.audit.context import AuditContext, Result, not_applicable
from meta.audit.registry import check
from meta.audit.statistics import CHANCE, SURE
from meta.metrics.scores import classwise_ece, clustered, ece_by_chance
from meta.metrics.slices import OUTCOMES, WINNER

MIN_ROWS, MIN_GROUPS = 100, 40
"""A slice with fewer battles or prompt groups is not tested: its sums are not normal yet."""

CALIBRATION_GAP = 0.02
"""Gap between forecast and share of votes that costs about .001 nats."""

NAMED = 3
"""Failing slices that the sentence names."""


@dataclass(frozen=True)
class _Gap:
    """A gap between forecast and votes, and how sure it is."""

    where: str
    gap: float
    error: float
    """Standard error."""

    @property
    def z(self) -> float:
        """The gap in standard errors."""
        return self.gap / self.error

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval."""
        return self.gap - 1.96 * self.error, self.gap + 1.96 * self.error

    def __str__(self) -> str:
        """The gap in words."""
        if self.where.endswith("ECE"):
            return f"{self.where} {self.gap:.3f} above chance"
        low, high = self.interval
        return (
            f"{self.where} forecast {100 * self.gap:+.1f} points off (95% interval "
            f"{100 * low:+.1f} to {100 * high:+.1f})"
        )


@check("C12")
def calibration_by_slice(context: AuditContext) -> Result:
    """Is the forecast calibrated for every kind of battle?

    In each slice of enough battles, of every family that does not know the vote, two things are
    tested: the mean gap between forecast and votes of each class, by its clustered error, and the
    class-wise ECE against what a calibrated forecast would show
    (``meta.metrics.scores.ece_by_chance``). All the tests together raise a false alarm in one audit
    of a hundred (Bonferroni). A slice fails where a test is significant and its gap is at least
    .02, which costs about .001 nats. Figure: the largest gap, or excess of ECE, among failing
    slices, else among all; threshold .02.
    """
    tests = [
        test
        for family, names in context.slices.items()
        if family != WINNER
        for name in np.unique(names)
        for test in _gaps(context, np.flatnonzero(names == name), f"{family}: {name}")
    ]
    if not tests:
        return not_applicable(f"No slice has {MIN_ROWS} battles of {MIN_GROUPS} prompt groups.")
    critical = norm.isf(CHANCE / (2 * len(tests)))
    failed = [test for test in tests if abs(test.z) > critical and abs(test.gap) >= CALIBRATION_GAP]
    ranked = sorted(failed or tests, key=lambda test: -abs(test.gap))
    worst = ranked[0]
    tie_gap, tie_error = clustered(context.meta[:, TIE] - context.shares[:, TIE], context.groups)
    slices = len({test.where for test in tests if test.where.endswith("ECE")})
    if failed:
        named = "; ".join(str(test) for test in ranked[:NAMED])
        meaning = (
            f"Off by more than chance and more than {CALIBRATION_GAP}: {len(failed)}, worst "
            f"{named}. Do not trust probabilities there: give the model a column that "
            "identifies these battles, or calibrate them separately."
        )
    else:
        meaning = (
            f"None is off by more than chance and more than {CALIBRATION_GAP}; the largest is "
            f"{worst}. Overall, forecast ties are {100 * tie_gap:+.1f} points off "
            f"(95% interval ±{196 * tie_error:.1f})."
        )
    return Result(
        "fail" if failed else "pass",
        f"{len(tests)} gaps and calibration errors of {slices} slices were tested. {meaning}",
        worst.gap,
        CALIBRATION_GAP,
        worst.interval,
    )


@check("C13")
def tie_rate(context: AuditContext) -> Result:
    """Does the forecast predict as many ties as people vote?

    Figure: mean P(tie) minus the share of ties, on scored battles. Threshold: .02, which costs
    about .001 nats; fails where the figure is larger and its 99% interval excludes 0.
    """
    if not len(context.rows):
        return not_applicable("No battle was scored.")
    forecast, ties = context.meta[:, TIE], context.shares[:, TIE]
    gap, error = clustered(forecast - ties, context.groups)
    low, high = gap - SURE * error, gap + SURE * error
    fails = abs(gap) > CALIBRATION_GAP and (low > 0 or high < 0)
    meaning = (
        "No temperature corrects that: calibrate with a bias of the ties, or weight the ties."
        if fails
        else "Ties are as frequent as forecast, as far as it matters."
    )
    return Result(
        "fail" if fails else "pass",
        f"The forecast predicts {100 * forecast.mean():.1f}% ties, people voted "
        f"{100 * ties.mean():.1f}% (difference {100 * gap:+.1f} points, 99% interval "
        f"{100 * low:+.1f} to {100 * high:+.1f}). {meaning}",
        gap,
        CALIBRATION_GAP,
        (low, high),
    )


def _gaps(context: AuditContext, rows: np.ndarray, name: str) -> list[_Gap]:
    """The three mean gaps of a slice and its ECE, none where it is too small."""
    groups = context.groups[rows]
    if len(rows) < MIN_ROWS or len(np.unique(groups)) < MIN_GROUPS:
        return []
    forecast, shares = context.meta[rows], context.shares[rows]
    tests = []
    for c, outcome in enumerate(OUTCOMES):
        gap, error = clustered(forecast[:, c] - shares[:, c], groups)
        # Of a class that hardly occurs the residuals all but vanish, and so would their error.
        rate = float(forecast[:, c].mean())
        error = max(error, float(np.sqrt(rate * (1 - rate) / len(rows)) / 2), 1e-12)
        tests.append(_Gap(f"{name}, {outcome}", gap, error))
    expected, deviation = ece_by_chance(forecast, shares, groups)
    excess = classwise_ece(forecast, shares) - expected
    # Only a larger error than chance's is a fault.
    tests.append(_Gap(f"{name}, ECE", max(excess, 0.0), max(deviation, 1e-12)))
    return tests
