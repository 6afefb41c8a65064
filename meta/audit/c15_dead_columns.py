"""Dead columns: columns that are missing everywhere or never vary, and infinite values.

A few columns are always dead in training (no answer of the file holds a table): that alone passes.
Figure: number of faults. A fault is a view that is dead, a column with an infinite value, or a
column that is missing in the whole test file although it is defined for so many training prompts
that this can hardly be chance (.001). Threshold: 0.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from meta.audit.context import AuditContext, Result, not_applicable

CHANCE = 0.001
NAMED = 5


def check(case: AuditContext) -> Result:
    """Look at every column of both design matrices."""
    names, values = case.design.names, case.design.values
    if not values.size:
        return not_applicable("There is no column, or no scored battle.")
    dead = _dead(values)
    views: dict[str, list[bool]] = defaultdict(list)
    for name, is_dead in zip(names, dead, strict=True):
        views[name.partition(".")[0]].append(bool(is_dead))
    faults = [f"view {view} is dead" for view, columns in views.items() if all(columns)]
    infinite = np.isinf(values).any(axis=0)
    if case.test_design is not None and case.test_battles is not None:
        test = case.test_design.values
        lost = _lost(values, test, case.groups, case.test_battles["group"].nunique())
        faults += [f"{names[i]} is missing in test" for i in lost]
        infinite |= np.isinf(test).any(axis=0)
    faults += [f"{names[i]} has infinite values" for i in np.flatnonzero(infinite)]
    count = int(dead.sum())
    listed = _list([names[i] for i in np.flatnonzero(dead)])
    meaning = (
        f"Extract these views again: {_list(faults)}."
        if faults
        else "Trees ignore such columns: nothing needs to be done."
    )
    return Result(
        "fail" if faults else "pass",
        f"{count:,} of {len(names):,} columns are missing everywhere or never vary in "
        f"{len(values):,} scored battles{f' ({listed})' if count else ''}. {meaning}",
        len(faults),
        0.0,
    )


def _dead(values: np.ndarray) -> np.ndarray:
    """Whether a column holds no two different values, NaN being one; bool (d,)."""
    missing = np.isnan(values)
    filled = np.where(missing, np.float32(0), values)
    first = filled[:1]
    same = (filled == first).all(axis=0)
    return np.asarray((same & ~missing.any(axis=0)) | missing.all(axis=0))


def _lost(train: np.ndarray, test: np.ndarray, groups: np.ndarray, prompts: int) -> list[int]:
    """Positions of columns that all ``prompts`` groups of the test battles lack, against chance."""
    every, index = np.unique(groups, return_inverse=True)
    lost = []
    for i in np.flatnonzero(np.isnan(test).all(axis=0)):
        defined = len(np.unique(index[~np.isnan(train[:, i])])) / len(every)
        if (1 - defined) ** prompts < CHANCE:
            lost.append(int(i))
    return lost


def _list(items: list[str]) -> str:
    rest = len(items) - NAMED
    return ", ".join(items[:NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
