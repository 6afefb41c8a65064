"""Worse than a part: fusing all views, and calibrating, must not hurt.

Figure: log loss of meta minus that of the part (a view alone, or meta before calibration) that it
is most surely worse than. Threshold: .001, under which nothing needs to be done; fails where the
figure is larger and the 95% interval lies above 0.
"""

from __future__ import annotations

from meta.audit.context import META, AuditContext, Result, not_applicable
from meta.base_models.baselines import NULLS
from meta.metrics.scores import paired_bootstrap, row_losses

THRESHOLD = 0.001


def check(case: AuditContext) -> Result:
    """Compare meta with everything that it is made of, paired by battle."""
    ours = row_losses(case.meta, case.votes)
    found = {
        name: paired_bootstrap(ours, row_losses(table, case.votes), case.groups)
        for name, table in case.probabilities.items()
        if name not in (*NULLS, META)
    }
    if not found or not len(case.rows):
        return not_applicable("No view alone was scored.")
    name, best = max(found.items(), key=lambda item: item[1].low)
    fails = best.low > 0 and best.difference > THRESHOLD
    meaning = (
        f"What was added to {name} only hurts: leave it out, or give more battles to tune on."
        if fails
        else "Nothing that was added hurts, as far as so many battles tell."
    )
    return Result(
        "fail" if fails else "pass",
        f"Against {name}, the strongest of {len(found)} parts, the whole has a log loss "
        f"{best.difference:+.4f} ({best.words}). {meaning}",
        best.difference,
        THRESHOLD,
        (best.low, best.high),
    )
