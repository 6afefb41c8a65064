"""Does the forecast lean on a property of the answers further than people do?

Among the decided battles, the votes (1 where A won) and the forecast P(A) / (P(A) + P(B)) are each
regressed on the same difference x between A and B, by logistic regression without intercept. A
forecast that is calibrated along x has the slope of the votes, whatever evidence it rests on: both
regressions see the same battles, so what x goes along with (quality, above all) is the same in both
slopes, and a gap between them is the model's own. Where it helps, the length is held equal.

The gap counts in the direction of the forecast's slope, where people that lean the other way count
as not leaning: positive is a bias, made or amplified by the model; negative means that it leans
less than people, which is caution.
"""

from __future__ import annotations

import numpy as np

from arena.schema import TIE, A, B
from meta.audit.context import AuditContext, Result, not_applicable
from meta.audit.statistics import SURE, slope_gap, subsample
from meta.base_models.baselines import length_columns

DECIDED, DIFFERENT = 60, 20
"""Fewer decided battles, or fewer in which the answers differ in x, say nothing."""

LIMIT = 12_000
"""Decided battles that are looked at."""

DRAWS = 200
"""For a standard error, which 200 draws give to 5%."""

MATTERS = 0.05
"""Log-odds per unit of x, about a percentage point in an even battle: less is no bias to mend."""


def length_ratio(case: AuditContext) -> np.ndarray:
    """Doublings of A's characters against B's: log to base 2 of their ratio; float64 (m,)."""
    ratio: np.ndarray = length_columns(case.scored)[0][:, 1] / np.log(2)
    return ratio


def mark_ratio(case: AuditContext, *signals: str) -> np.ndarray | None:
    """Doublings of A's marks against B's, from signals that are log(1 + count); float64 (m,).

    None where the design matrix has none of the signals.
    """
    difference = case.difference(*signals)
    return None if difference is None else difference / np.log(2)


def lean(
    case: AuditContext, x: np.ndarray | None, unit: str, remedy: str, equal_length: bool
) -> Result:
    """Compare the slopes of forecast and votes on ``x``.

    Args:
        case: what is audited.
        x: float64 (m,), a difference A minus B; None where the design matrix lacks it.
        unit: what one unit of ``x`` is, in words.
        remedy: what to do where the forecast leans too far.
        equal_length: whether to hold the length ratio equal.

    Returns:
        Figure: gap of the slopes in log-odds per unit; threshold ``MATTERS``; 99% interval. Fails
        where the gap is larger and the interval lies above 0.
    """
    if x is None:
        return not_applicable("The design matrix lacks the handcrafted signals of this check.")
    decided = np.flatnonzero(case.votes != TIE)
    rows = decided[subsample(len(decided), LIMIT)]
    different = int(np.count_nonzero(x[rows]))
    if len(rows) < DECIDED or different < DIFFERENT:
        return not_applicable(
            f"{len(rows):,} decided battles, of which {different:,} differ in it, are too few."
        )
    columns = [x[rows]] + ([length_ratio(case)[rows]] if equal_length else [])
    sides = case.meta[rows][:, [A, B]]
    forecast, theirs, error = slope_gap(
        np.stack(columns, axis=1),
        sides[:, 0] / np.maximum(sides.sum(axis=1), 1e-12),
        (case.votes[rows] == A).astype(np.float64),
        case.groups[rows],
        DRAWS,
    )
    gap, missed = _excess(forecast, theirs), _excess(theirs, forecast)
    low, high = gap - SURE * error, gap + SURE * error
    fails = gap > MATTERS and low > 0
    drawn = "" if len(rows) == len(decided) else f" drawn from {len(decided):,}"
    measured = (
        f"Per {unit}{', at equal length,' if equal_length else ''} the forecast's log-odds of A "
        f"against B move by {forecast:+.2f} and the votes' by {theirs:+.2f} ({len(rows):,} decided "
        f"battles{drawn}; gap {gap:+.2f}, 99% interval {low:+.2f} to {high:+.2f})."
    )
    if fails:
        meaning = f"The model leans on it further than people do: {remedy}"
    elif missed > SURE * error:
        meaning = "The model leans on it less than people do: no bias, but evidence left unused."
    else:
        meaning = "The model leans on it no further than people do, as far as so many votes tell."
    return Result("fail" if fails else "pass", f"{measured} {meaning}", gap, MATTERS, (low, high))


def _excess(one: float, other: float) -> float:
    """How much further ``one`` leans than ``other``, in the direction of ``one``."""
    return abs(one) - max(0.0, other if one >= 0 else -other)
