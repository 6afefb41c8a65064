"""Golden feature: a single column that explains too much is the label in disguise.

Figure: the largest AUC of a column alone, of A against B among the decided battles for columns that
flip under a swap (the difference for paired ones), of tie against decision for the others; an AUC
below .5 counts as its mirror image. Threshold: .95. Two people agree on the side of 81% of the
battles that both decide (Zheng et al. 2023, "Judging LLM-as-a-judge", table 5), so that even a
column that knew the majority would stay near .9. The AUC must also be surer than chance, corrected
for the number of columns.

It fails too where the most telling column alone, cross-fitted, has a lower log loss than the whole.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm, rankdata

from arena.schema import TIE, A
from meta.audit.context import AuditContext, Result, not_applicable
from meta.audit.statistics import CHANCE, LIMIT, auc_by_column, columns_of, folds_of, subsample
from meta.base_models.symmetric_logistic import SymmetricLogistic
from meta.metrics.scores import paired_bootstrap, row_losses

THRESHOLD = 0.95
FOLDS = 5


def check(case: AuditContext) -> Result:
    """Rank the columns, and let the first of them stand against meta."""
    if not case.design.columns or not len(case.rows):
        return not_applicable("There is no column, or no scored battle.")
    names, values, flips = columns_of(case)
    rows = subsample(len(case.rows), LIMIT)
    votes, decided = case.votes[rows], case.votes[rows] != TIE
    side, side_z = auc_by_column(values[rows][decided][:, flips], votes[decided] == A)
    tie, tie_z = auc_by_column(values[rows][:, ~flips], votes == TIE)
    auc, z = np.full(len(names), 0.5), np.zeros(len(names))
    auc[flips], auc[~flips] = np.maximum(side, 1 - side), np.maximum(tie, 1 - tie)
    z[flips], z[~flips] = np.abs(side_z), np.abs(tie_z)
    # Among columns that chance explains as well as anything, the surest one is the most telling.
    sure = z > norm.isf(CHANCE / (2 * len(names)))
    top = int(np.argmax(np.where(sure, auc, 0.0))) if sure.any() else int(z.argmax())
    golden = bool(sure[top] and auc[top] >= THRESHOLD)
    alone = _alone(values[:, top], bool(flips[top]), case)
    against = paired_bootstrap(alone, row_losses(case.meta, case.votes), case.groups)
    beats = against.high < 0
    what = "the side" if flips[top] else "ties"
    measured = (
        f"The most telling of {len(names):,} columns is {names[top]}, which tells {what} with an "
        f"AUC of {auc[top]:.3f} ({len(rows):,} battles). Alone it has a log loss "
        f"{against.difference:+.4f} against the whole ({against.words})."
    )
    if golden:
        meaning = "No property of the texts tells so much: find out how the vote got into it."
    elif beats:
        meaning = "One column beats the whole: the others only add noise, or the whole is damaged."
    else:
        meaning = "No column gives the vote away."
    return Result(
        "fail" if golden or beats else "pass", f"{measured} {meaning}", float(auc[top]), THRESHOLD
    )


def _alone(x: np.ndarray, flips: bool, case: AuditContext) -> np.ndarray:
    """Cross-fitted losses (m,) of a symmetric logistic model on one column's ranks."""
    known = ~np.isnan(x)
    ranks = np.zeros(len(x))
    if flips:
        # Ranks of the size keep the parity.
        ranks[known] = np.sign(x[known]) * rankdata(np.abs(x[known])) / len(x)
    else:
        ranks[known] = rankdata(x[known]) / len(x)
    anti = ranks[:, None] if flips else np.zeros((len(x), 1))
    # Two columns of a size let ties lie at either end, or in the middle.
    size = np.abs(ranks)
    sym = np.stack([size, (size - size.mean()) ** 2], axis=1)
    folds = folds_of(case.groups, FOLDS)
    losses = np.empty(len(x))
    for fold in np.unique(folds):
        held = folds == fold
        if held.all():
            return np.full(len(x), np.log(3))
        model = SymmetricLogistic.fit(anti[~held], sym[~held], case.votes[~held])
        losses[held] = row_losses(model.predict(anti[held], sym[held]), case.votes[held])
    return losses
