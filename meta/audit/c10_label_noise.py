"""Label noise: battles that occur more than once, with different votes.

Battles are the same where prompt and answers are, in whichever order; votes are compared in one
order. Figure: share of the training battles that have a twin with another vote. Threshold: .01.
Two votes that differ cost at least log 2 each, so a hundredth of them makes .007 nats that no model
can win. The LMSYS file has .0002.

The sentence also says how often two votes on one battle differ, d. Then no forecast of such battles
can have an expected log loss below -log(1 - d): 1 - d is the mean of sum p², the entropy of p is at
least -log(sum p²) (Rényi's entropies fall with their order), and -log is convex.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from arena.schema import digest
from arena.swap import SWAP
from meta.audit.context import AuditContext, Result, not_applicable
from meta.metrics.scores import paired_bootstrap

THRESHOLD = 0.01


def check(case: AuditContext) -> Result:
    """Find the twins and compare their votes."""
    n = len(case.battles)
    twins = [rows for rows in _same_battle(case) if len(rows) > 1]
    if not twins:
        return not_applicable(f"None of the {n:,} training battles occurs twice.")
    differ = np.concatenate([_differ(np.array([vote for _, vote in rows])) for rows in twins])
    rows = np.array([row for rows in twins for row, _ in rows])
    conflicting = int((differ > 0).sum())
    share = conflicting / n
    groups = case.battles["group"].to_numpy(dtype=np.str_)[rows]
    found = paired_bootstrap(differ, np.zeros(len(differ)), groups)
    bound = -math.log(1 - found.difference) if found.difference < 1 else math.inf
    interval = ""
    if math.isfinite(found.low):
        interval = f" (95% interval {100 * found.low:.0f} to {100 * found.high:.0f})"
    meaning = (
        "The same texts teach opposite votes: give each battle once, with the votes' majority, or "
        "keep them in the knowledge that this much loss stays"
        if share > THRESHOLD
        else "That is too little to matter"
    )
    return Result(
        "fail" if share > THRESHOLD else "pass",
        f"{len(rows):,} of {n:,} training battles are one of {len(twins):,} that occur more than "
        f"once, and {conflicting:,} of them have a twin with another vote. Two votes on one battle "
        f"differ in {100 * found.difference:.0f}% of the pairs{interval}, so no forecast of such "
        f"battles can have a log loss below {bound:.3f}. {meaning}.",
        share,
        THRESHOLD,
    )


def _same_battle(case: AuditContext) -> list[list[tuple[int, int]]]:
    """Position and vote, in one order of the answers, of the rows of each battle."""
    # Twins share a group, so that only groups of several rows are hashed again.
    several = case.battles["group"].duplicated(keep=False).to_numpy()
    columns = [case.battles[name].tolist() for name in ("prompt", "response_a", "response_b")]
    found: dict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
    for row in np.flatnonzero(several):
        prompt, a, b = (digest([column[row]]) for column in columns)
        vote = int(case.labels[row])
        found[prompt, min(a, b), max(a, b)].append((int(row), vote if a <= b else int(SWAP[vote])))
    return list(found.values())


def _differ(votes: np.ndarray) -> np.ndarray:
    """For each vote, the share of the other votes on its battle that differ; float64."""
    same = np.bincount(votes, minlength=3)[votes]
    return np.asarray((len(votes) - same) / (len(votes) - 1), dtype=np.float64)
