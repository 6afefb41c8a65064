"""Tie rate: does the forecast promise as many ties as people give?

Figure: mean P(tie) minus the share of ties, on scored battles. Threshold: .02, which costs about
.001 nats; fails where the figure is larger and its 99% interval excludes 0.
"""

from __future__ import annotations

from arena.schema import TIE
from meta.audit.context import AuditContext, Result, not_applicable
from meta.audit.statistics import SURE
from meta.metrics.scores import clustered

THRESHOLD = 0.02


def check(case: AuditContext) -> Result:
    """Compare promised and given ties."""
    if not len(case.rows):
        return not_applicable("No battle was scored.")
    forecast, ties = case.meta[:, TIE], case.votes == TIE
    gap, error = clustered(forecast - ties, case.groups)
    low, high = gap - SURE * error, gap + SURE * error
    fails = abs(gap) > THRESHOLD and (low > 0 or high < 0)
    meaning = (
        "A temperature cannot mend that: calibrate with a bias of the ties, or weigh the ties."
        if fails
        else "Ties are as frequent as forecast, as far as it matters."
    )
    return Result(
        "fail" if fails else "pass",
        f"The forecast says {100 * forecast.mean():.1f}% ties, people gave "
        f"{100 * ties.mean():.1f}% (difference {100 * gap:+.1f} points, 99% interval "
        f"{100 * low:+.1f} to {100 * high:+.1f}). {meaning}",
        gap,
        THRESHOLD,
        (low, high),
    )
