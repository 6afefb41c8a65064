"""Position: do people vote for the answer that stands first?

The model is exactly symmetric, so it cannot use the position; with a lean d of the votes and a
share t of ties that costs about d² / (2 (1 - t)) nats (second order of the divergence between the
two sides' shares). Figure: share of A's wins minus B's, of all scored battles. Threshold: .04,
where the cost is .001 nats, about what calibration is worth; fails where the figure is larger and
its 99% interval excludes 0. The LMSYS votes lean by .007.
"""

from __future__ import annotations

from arena.schema import TIE, A, B
from meta.audit.context import AuditContext, Result, not_applicable
from meta.audit.statistics import SURE
from meta.metrics.scores import clustered

THRESHOLD = 0.04


def check(case: AuditContext) -> Result:
    """Measure the lean of the votes, and of the model before both orders are averaged."""
    votes = case.votes
    if not len(votes):
        return not_applicable("No battle was scored.")
    lean, error = clustered(1.0 * (votes == A) - 1.0 * (votes == B), case.groups)
    low, high = lean - SURE * error, lean + SURE * error
    decided = max(float((votes != TIE).mean()), 1e-9)
    cost = lean**2 / (2 * decided)
    fails = abs(lean) > THRESHOLD and (low > 0 or high < 0)
    measured = (
        f"A wins {100 * lean:+.1f} percentage points of the votes more than B (99% interval "
        f"{100 * low:+.1f} to {100 * high:+.1f})"
    )
    if case.one_order is not None:
        model = float((case.one_order[:, A] - case.one_order[:, B]).mean())
        measured += f"; the model, before both orders are averaged, {100 * model:+.1f}"
    if fails:
        meaning = (
            f"The symmetric model gives about {cost:.4f} nats away: check whether the file puts "
            "the better answer first, and shuffle the sides if it does."
        )
    else:
        meaning = f"Ignoring the position costs the symmetric model about {cost:.5f} nats."
    return Result(
        "fail" if fails else "pass",
        f"{measured}. {meaning}",
        lean,
        THRESHOLD,
        (low, high),
    )
