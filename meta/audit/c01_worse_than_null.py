"""Worse than a null: the whole must beat uniform, the class prior and length alone.

Figure: log loss of meta minus that of the null that it beats least surely; threshold 0, which the
95% interval of the paired bootstrap must lie below.
"""

from __future__ import annotations

from meta.audit.context import META, AuditContext, Result, not_applicable
from meta.base_models.baselines import NULLS
from meta.metrics.scores import paired_bootstrap, row_losses


def check(case: AuditContext) -> Result:
    """Compare meta with each null, paired by battle."""
    ours = row_losses(case.meta, case.votes)
    found = {
        name: paired_bootstrap(ours, row_losses(case.probabilities[name], case.votes), case.groups)
        for name in NULLS
        if name in case.probabilities
    }
    if not found or not len(case.rows):
        return not_applicable("No null was scored.")
    name, hardest = max(found.items(), key=lambda item: item[1].high)
    measured = (
        f"{META.capitalize()} has a log loss of {ours.mean():.4f}, {hardest.difference:+.4f} "
        f"against {name} ({hardest.words})."
    )
    if hardest.high < 0:
        meaning = f"It beats {', '.join(found)}, so the evidence tells something of the votes."
    elif hardest.low > 0:
        meaning = f"It is worse than {name}: do not use it; look for damaged views or labels first."
    else:
        meaning = f"That it beats {name} is not shown: gather more battles, or better evidence."
    return Result(
        "pass" if hardest.high < 0 else "fail",
        f"{measured} {meaning}",
        hardest.difference,
        0.0,
        (hardest.low, hardest.high),
    )
