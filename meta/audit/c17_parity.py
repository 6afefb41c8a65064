"""Parity: do the columns behave under a swap as they declare?

Who stands first is a draw, so a column that stays the same under a swap cannot tell which side wins
(but for the small lean of people towards A), and one that flips cannot tell by its sign whether
there is a tie. A column that does was declared wrongly, or the file does not draw the sides.
Figure: the largest |AUC - .5| of a column for what it must not tell, among those beyond chance
(corrected for the number of columns), 0 where there is none. Threshold: .05, at a lean of the votes
by .007 out of reach of a sound column.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from arena.schema import TIE, A
from meta.audit.context import AuditContext, Result, not_applicable
from meta.audit.statistics import CHANCE, LIMIT, auc_by_column, columns_of, subsample

THRESHOLD = 0.05


def check(case: AuditContext) -> Result:
    """Ask every column for what its parity says it cannot know."""
    if not case.design.columns or not len(case.rows):
        return not_applicable("There is no column, or no scored battle.")
    names, values, flips = columns_of(case)
    rows = subsample(len(case.rows), LIMIT)
    votes, decided = case.votes[rows], case.votes[rows] != TIE
    auc, z = np.full(len(names), 0.5), np.zeros(len(names))
    auc[flips], z[flips] = auc_by_column(values[rows][:, flips], votes == TIE)
    auc[~flips], z[~flips] = auc_by_column(values[rows][decided][:, ~flips], votes[decided] == A)
    size = np.where(np.abs(z) > norm.isf(CHANCE / (2 * len(names))), np.abs(auc - 0.5), 0.0)
    top = int(size.argmax())
    figure = float(size[top])
    fails = figure > THRESHOLD
    if figure > 0:
        what = "a tie by its sign" if flips[top] else "the side that wins"
        measured = f"{names[top]} tells {what} with an AUC of {auc[top]:.3f}."
    else:
        measured = f"None of {len(names):,} columns tells beyond chance what its parity excludes."
    meaning = (
        "Its declared parity is wrong, or the file sorts the sides: the model averages this "
        "evidence away. Correct the view's parity."
        if fails
        else "The parities hold."
    )
    return Result("fail" if fails else "pass", f"{measured} {meaning}", figure, THRESHOLD)
