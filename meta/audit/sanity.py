"""Checks of sanity: do the figures mean anything, and does the stack gain by what it is made of?"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm, rankdata

from arena.schema import TIE, A
from meta.audit.context import META, AuditContext, Result, not_applicable
from meta.audit.registry import check
from meta.audit.statistics import CHANCE, LIMIT, auc_by_column, columns_of, folds_of, subsample
from meta.base_models.baselines import NULLS
from meta.base_models.symmetric_logistic import SymmetricLogistic
from meta.metrics.bootstrap import paired_bootstrap
from meta.metrics.scores import row_losses

SWAP_GAP = 1e-6

GOLDEN_AUC = 0.95
GOLDEN_FOLDS = 5

LOSS_HALF_WIDTH = 0.03
LARGEST_GROUP = 0.2
SMALLEST_FOLD = 0.5

EXCESS_LOSS = 0.001

PARITY_AUC = 0.05


@check("C01")
def worse_than_null(context: AuditContext) -> Result:
    """Does the forecast beat uniform, the class prior and length alone?

    Figure: log loss of meta minus that of the null that it beats least surely; threshold 0, which
    the 95% interval of the paired bootstrap must lie below.
    """
    losses = row_losses(context.meta, context.votes)
    against = {
        name: paired_bootstrap(
            losses, row_losses(context.probabilities[name], context.votes), context.groups
        )
        for name in NULLS
        if name in context.probabilities
    }
    if not against or not len(context.rows):
        return not_applicable("No null was scored.")
    name, hardest = max(against.items(), key=lambda item: item[1].high)
    measured = (
        f"{META.capitalize()} has a log loss of {losses.mean():.4f}, {hardest.difference:+.4f} "
        f"against {name} ({hardest.words})."
    )
    if hardest.high < 0:
        meaning = f"It beats {', '.join(against)}, so the views carry information about the votes."
    elif hardest.low > 0:
        meaning = f"It is worse than {name}: do not use it, and look for damaged views or labels."
    else:
        meaning = f"That it beats {name} is not shown: collect more battles, or better views."
    return Result(
        "pass" if hardest.high < 0 else "fail",
        f"{measured} {meaning}",
        hardest.difference,
        0.0,
        (hardest.low, hardest.high),
    )


@check("C03")
def swap_gap(context: AuditContext) -> Result:
    """Does exchanging the answers exchange P(A) and P(B), and leave P(tie)?

    The figure is the larger of two gaps: of all scored battles with the columns exchanged by their
    declared parities, and of some battles with the texts exchanged and the handcrafted signals
    computed again (``meta.audit.exchange``), in which a wrong parity shows. Threshold: 1e-6, far
    above what adding floating point numbers in another order can do (1e-12) and far below what any
    figure shows.
    """
    fails = not context.swap_gap <= SWAP_GAP
    meaning = (
        "A handcrafted signal's declared parity is wrong: correct it. Or the signals were computed "
        "by other code: run extract.py again."
        if fails
        else "The forecast does not depend on which answer stands first."
    )
    return Result(
        "fail" if fails else "pass",
        f"Exchanging the answers moves a probability by at most {context.swap_gap:.1e}. {meaning}",
        context.swap_gap,
        SWAP_GAP,
    )


@check("C11")
def golden_feature(context: AuditContext) -> Result:
    """Is a column the label in disguise?

    Figure: the largest AUC of a column alone, of A against B among the decided battles for columns
    that flip under a swap (the difference for paired ones), of tie against decision for the others;
    an AUC below .5 counts as its mirror image. Threshold: .95. Two people agree on the side of 81%
    of the battles that both decide (Zheng et al. 2023, "Judging LLM-as-a-judge", table 5), so that
    even a column that knew the majority would stay near .9. The AUC must also be surer than chance,
    corrected for the number of columns.

    It also fails where the most predictive column alone, cross-fitted, has a lower log loss than
    meta.
    """
    if not context.design.columns or not len(context.rows):
        return not_applicable("There is no column, or no scored battle.")
    names, values, flips = columns_of(context)
    rows = subsample(len(context.rows), LIMIT)
    winners = context.winners[rows]
    decided = winners != TIE
    side, side_z = auc_by_column(values[rows][decided][:, flips], winners[decided] == A)
    tie, tie_z = auc_by_column(values[rows][:, ~flips], winners == TIE)
    auc, z = np.full(len(names), 0.5), np.zeros(len(names))
    auc[flips], auc[~flips] = np.maximum(side, 1 - side), np.maximum(tie, 1 - tie)
    z[flips], z[~flips] = np.abs(side_z), np.abs(tie_z)
    # Among columns that chance explains as well as anything, the surest one is the most predictive.
    sure = z > norm.isf(CHANCE / (2 * len(names)))
    top = int(np.argmax(np.where(sure, auc, 0.0))) if sure.any() else int(z.argmax())
    golden = bool(sure[top] and auc[top] >= GOLDEN_AUC)
    alone = _losses_of_column(values[:, top], bool(flips[top]), context)
    against = paired_bootstrap(alone, row_losses(context.meta, context.votes), context.groups)
    beats = against.high < 0
    outcome = "the side" if flips[top] else "ties"
    measured = (
        f"The most predictive of {len(names):,} columns is {names[top]}, which predicts {outcome} "
        f"with an AUC of {auc[top]:.3f} ({len(rows):,} battles). Alone it has a log loss "
        f"{against.difference:+.4f} against meta ({against.words})."
    )
    if golden:
        meaning = "No property of the texts predicts so well: find out how the vote got into it."
    elif beats:
        meaning = "One column beats meta: the others only add noise, or the model is damaged."
    else:
        meaning = "No column reveals the vote."
    return Result(
        "fail" if golden or beats else "pass", f"{measured} {meaning}", float(auc[top]), GOLDEN_AUC
    )


def _losses_of_column(x: np.ndarray, flips: bool, context: AuditContext) -> np.ndarray:
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
    folds, votes = folds_of(context.groups, GOLDEN_FOLDS), context.votes
    losses = np.empty(len(x))
    for fold in np.unique(folds):
        validation = folds == fold
        if validation.all():
            return np.full(len(x), np.log(3))
        model = SymmetricLogistic.fit(anti[~validation], sym[~validation], votes[~validation])
        forecast = model.predict(anti[validation], sym[validation])
        losses[validation] = row_losses(forecast, votes[validation])
    return losses


@check("C14")
def too_few_groups(context: AuditContext) -> Result:
    """Are there enough battles and prompts for the figures to mean anything?

    Figure: half the width of the 95% interval of meta's log loss, by bootstrap over prompt groups.
    Threshold: .03. From the class prior to the length of the answers alone the log loss of the
    LMSYS votes falls by .032 (1.097 to 1.065); a run that cannot see that step cannot rank
    views. Some 900 battles of different prompts suffice.

    It fails too where one prompt group holds a fifth of the scored battles, or a fold of training
    battles is less than half as large as the folds are on average.
    """
    if not len(context.rows):
        return not_applicable("No battle was scored.")
    losses = row_losses(context.meta, context.votes)
    mean = paired_bootstrap(losses, np.zeros(len(losses)), context.groups)
    sizes = np.unique(context.groups, return_counts=True)[1]
    half = (mean.high - mean.low) / 2 if len(sizes) > 1 else float("inf")
    largest = float(sizes.max() / sizes.sum())
    smallest = 1.0
    if context.folds is not None:
        rows = np.unique(context.folds, return_counts=True)[1]
        smallest = float(rows.min() / rows.mean())
    faults = []
    if half > LOSS_HALF_WIDTH:
        faults.append("collect more battles of other prompts before you compare settings")
    if largest > LARGEST_GROUP:
        faults.append("one prompt group decides the figures: keep fewer of its battles")
    if smallest < SMALLEST_FOLD:
        faults.append("the folds are uneven: choose fewer")
    meaning = "; ".join(faults) if faults else "that suffices to compare views"
    return Result(
        "fail" if faults else "pass",
        f"The log loss {losses.mean():.4f} is known to ±{half:.4f} (95%), from {len(losses):,} "
        f"battles of {len(sizes):,} prompt groups; the largest group holds {100 * largest:.1f}% of "
        f"the battles: {meaning}.",
        half,
        LOSS_HALF_WIDTH,
        (None, None),
    )


@check("C16")
def worse_than_a_part(context: AuditContext) -> Result:
    """Does stacking all views, or calibrating, hurt?

    Figure: log loss of meta minus that of the part (a view alone, or meta before calibration) that
    it is most surely worse than. Threshold: .001, under which nothing needs to be done; fails where
    the figure is larger and the 95% interval lies above 0.
    """
    losses = row_losses(context.meta, context.votes)
    against = {
        name: paired_bootstrap(losses, row_losses(forecast, context.votes), context.groups)
        for name, forecast in context.probabilities.items()
        if name not in (*NULLS, META)
    }
    if not against or not len(context.rows):
        return not_applicable("No view alone was scored.")
    name, best = max(against.items(), key=lambda item: item[1].low)
    fails = best.low > 0 and best.difference > EXCESS_LOSS
    meaning = (
        f"What was added to {name} only hurts: leave it out, or tune on more battles."
        if fails
        else "Nothing that was added hurts, as far as so many battles show."
    )
    return Result(
        "fail" if fails else "pass",
        f"Against {name}, the strongest of {len(against)} parts, meta has a log loss "
        f"{best.difference:+.4f} ({best.words}). {meaning}",
        best.difference,
        EXCESS_LOSS,
        (best.low, best.high),
    )


@check("C17")
def parity(context: AuditContext) -> Result:
    """Do the columns behave under a swap as they declare?

    Which answer is first is random, so a column that stays the same under a swap cannot predict
    which side wins (except for people's slight preference for A), and one that flips cannot predict
    by its sign whether there is a tie. A column that does was declared wrongly, or the file does
    not shuffle the sides. Figure: the largest |AUC - .5| of a column for what it must not predict,
    among those beyond chance (corrected for the number of columns), 0 where there is none.
    Threshold: .05, out of reach of a correct column at a position effect of .007.
    """
    if not context.design.columns or not len(context.rows):
        return not_applicable("There is no column, or no scored battle.")
    names, values, flips = columns_of(context)
    rows = subsample(len(context.rows), LIMIT)
    winners = context.winners[rows]
    decided = winners != TIE
    auc, z = np.full(len(names), 0.5), np.zeros(len(names))
    auc[flips], z[flips] = auc_by_column(values[rows][:, flips], winners == TIE)
    auc[~flips], z[~flips] = auc_by_column(values[rows][decided][:, ~flips], winners[decided] == A)
    size = np.where(np.abs(z) > norm.isf(CHANCE / (2 * len(names))), np.abs(auc - 0.5), 0.0)
    top = int(size.argmax())
    figure = float(size[top])
    fails = figure > PARITY_AUC
    if figure > 0:
        outcome = "a tie by its sign" if flips[top] else "the side that wins"
        measured = f"{names[top]} predicts {outcome} with an AUC of {auc[top]:.3f}."
    else:
        measured = (
            f"None of {len(names):,} columns predicts beyond chance what its parity excludes."
        )
    meaning = (
        "Its declared parity is wrong, or the file sorts the sides: the model averages it "
        "away. Correct the view's parity."
        if fails
        else "The parities hold."
    )
    return Result("fail" if fails else "pass", f"{measured} {meaning}", figure, PARITY_AUC)
