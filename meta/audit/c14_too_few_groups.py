"""Too few groups: do the figures of this run mean anything?

Figure: half the width of the 95% interval of meta's log loss, by bootstrap over prompt groups.
Threshold: .03. From the class prior to the length of the answers alone the log loss of the LMSYS
votes falls by .032 (1.097 to 1.065); a run that cannot see that step cannot rank evidence. Some
900 battles of different prompts suffice.

It fails too where one prompt group holds a fifth of the scored battles, or a fold of training
battles is less than half as large as the folds are on average.
"""

from __future__ import annotations

import numpy as np

from meta.audit.context import AuditContext, Result, not_applicable
from meta.metrics.scores import paired_bootstrap, row_losses

THRESHOLD = 0.03
LARGEST_GROUP = 0.2
SMALLEST_FOLD = 0.5


def check(case: AuditContext) -> Result:
    """Measure how sure the log loss is, and how the battles spread over groups and folds."""
    if not len(case.rows):
        return not_applicable("No battle was scored.")
    losses = row_losses(case.meta, case.votes)
    found = paired_bootstrap(losses, np.zeros(len(losses)), case.groups)
    sizes = np.unique(case.groups, return_counts=True)[1]
    half = (found.high - found.low) / 2 if len(sizes) > 1 else float("inf")
    largest = float(sizes.max() / sizes.sum())
    smallest = 1.0
    if case.folds is not None:
        rows = np.unique(case.folds, return_counts=True)[1]
        smallest = float(rows.min() / rows.mean())
    faults = []
    if half > THRESHOLD:
        faults.append("gather more battles of other prompts before you compare settings")
    if largest > LARGEST_GROUP:
        faults.append("one prompt group decides the figures: thin it out")
    if smallest < SMALLEST_FOLD:
        faults.append("the folds are uneven: choose fewer")
    meaning = "; ".join(faults) if faults else "that suffices to tell kinds of evidence apart"
    return Result(
        "fail" if faults else "pass",
        f"The log loss {losses.mean():.4f} is known to ±{half:.4f} (95%), from {len(losses):,} "
        f"battles of {len(sizes):,} prompt groups; the largest group holds {100 * largest:.1f}% of "
        f"the battles: {meaning}.",
        half,
        THRESHOLD,
        (None, None),
    )
