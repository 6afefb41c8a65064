"""How good probabilities are.

Every function takes ``probabilities`` float64 (n, 3) in the order of ``arena.schema.CLASSES`` and
``votes``: labels int (n,) with values 0, 1, 2, or shares float64 (n, 3), see ``meta.votes``. Of a
shared vote the log loss is the cross entropy against the shares, and the accuracy the share of the
most probable class; the AUC takes the largest share as the label. The log loss is a mean by weight,
if the votes have weights; all else is of votes that weigh alike.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from arena.schema import TIE, A, B
from arena.swap import SWAP
from meta.votes import shares_of, winners

FLOOR = 1e-15
"""Probabilities are clipped here before the logarithm, as Kaggle's scorer and scikit-learn do."""


def row_losses(probabilities: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each row's vote, times its weight, in nats; shape (n,)."""
    if votes.ndim == 2:
        logs = np.log(np.clip(probabilities, FLOOR, 1.0))
        return np.asarray(-(votes * logs).sum(axis=1))
    chosen = probabilities[np.arange(len(votes)), votes]
    losses: np.ndarray = -np.log(np.clip(chosen, FLOOR, 1.0))
    return losses


def log_loss(probabilities: np.ndarray, votes: np.ndarray) -> float:
    """Mean multiclass log loss, in nats."""
    losses = row_losses(probabilities, votes)
    return float(losses.mean() if votes.ndim == 1 else losses.sum() / votes.sum())


def brier(probabilities: np.ndarray, votes: np.ndarray) -> float:
    """Mean squared distance to the shares of the vote, summed over classes: 0 (best) to 2."""
    return float(((probabilities - shares_of(votes)) ** 2).sum(axis=1).mean())


def guesses(probabilities: np.ndarray) -> np.ndarray:
    """1 for the most probable class of each row, 0 for the others; float64 (n, 3).

    Classes that are equally probable share the 1, so that none is preferred for its place.
    """
    best = (probabilities == probabilities.max(axis=1, keepdims=True)).astype(np.float64)
    shared: np.ndarray = best / best.sum(axis=1, keepdims=True)
    return shared


def hits(probabilities: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """The share of each row's label in :func:`guesses`, float64 (n,): 1, 0, or 1 / 2 or 1 / 3."""
    if votes.ndim == 2:
        return np.asarray((guesses(probabilities) * votes).sum(axis=1))
    share: np.ndarray = guesses(probabilities)[np.arange(len(votes)), votes]
    return share


def accuracy(probabilities: np.ndarray, votes: np.ndarray) -> float:
    """Share of votes that are the most probable class, see :func:`hits`."""
    return float(hits(probabilities, votes).mean())


def lead(probabilities: np.ndarray) -> np.ndarray:
    """Logarithm of P(A) / P(B), which ranks rows as P(A) / (P(A) + P(B)) does; float64 (n,).

    A swap turns its sign to the last bit.
    """
    a, b = (np.log(np.maximum(probabilities[:, side], FLOOR)) for side in (A, B))
    difference: np.ndarray = a - b
    return difference


def placements(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Where each row stands among the rows of the other class; float64 (n,).

    A positive row gets the share of the negative ones with a lower score, a negative row the share
    of the positive ones with a higher score; equal scores count a half. The mean of either class is
    the area under the ROC curve. NaN where the other class is empty.

    Args:
        scores: float (n,).
        positive: bool (n,).

    Source: DeLong, DeLong and Clarke-Pearson 1988.
    """
    shares = np.full(len(scores), np.nan)
    for rows, sign in ((positive, 1), (~positive, -1)):
        others = np.sort(sign * scores[~rows])
        if len(others):
            sides = [np.searchsorted(others, sign * scores[rows], s) for s in ("left", "right")]
            shares[rows] = (sides[0] + sides[1]) / (2 * len(others))
    return shares


def decisive_auc(probabilities: np.ndarray, votes: np.ndarray) -> float:
    """Area under the ROC curve of P(A) / (P(A) + P(B)) on the rows that are not ties.

    The chance that a row that A won has a higher figure than one that B won. NaN where A or B
    never won.
    """
    labels = winners(votes)
    decided = labels != TIE
    if len(np.unique(labels[decided])) < 2:
        return float("nan")
    return float(roc_auc_score(labels[decided] == A, lead(probabilities[decided])))


def bins_of(probabilities: np.ndarray, bins: int = 10) -> np.ndarray:
    """Bin of each forecast among those of its class, int (n, 3).

    Bins hold equally many rows, but equal forecasts share a bin, that of the lowest rank among
    them: the order of the rows plays no part, and bins may be empty.
    """
    ranks = np.array_split(np.arange(len(probabilities)), bins)
    of_rank = np.repeat(np.arange(bins), [len(part) for part in ranks])
    first = [np.searchsorted(np.sort(forecast), forecast) for forecast in probabilities.T]
    bin_of: np.ndarray = of_rank[np.stack(first, axis=1)]
    return bin_of


def gaps_by_bin(probabilities: np.ndarray, votes: np.ndarray, bins: int = 10) -> np.ndarray:
    """Forecast minus vote of each row, in the column of its class and bin; (n, 3 * bins).

    The class-wise ECE is a third of the sum of the columns' absolute means.
    """
    n, bin_of, shares = len(votes), bins_of(probabilities, bins), shares_of(votes)
    gaps = np.zeros((n, 3 * bins))
    for c in range(3):
        gaps[np.arange(n), c * bins + bin_of[:, c]] = probabilities[:, c] - shares[:, c]
    return gaps


def classwise_ece(probabilities: np.ndarray, votes: np.ndarray, bins: int = 10) -> float:
    """Class-wise expected calibration error: mean over classes of the binned |forecast - rate|.

    Bins are those of :func:`bins_of`. Kull et al. 2019, "Beyond temperature scaling", section 3.
    """
    return float(np.abs(gaps_by_bin(probabilities, votes, bins).mean(axis=0)).sum() / 3)


def clustered(
    values: np.ndarray, groups: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Mean and its standard error where rows of one group are not independent.

    The error is infinite where there is only one group.

    Args:
        values: float (n,); times the weight of their row, if there are weights.
        groups: group of each row, (n,).
        weights: float (n,), of the mean; by default all rows weigh alike.

    Source: Liang and Zeger 1986 (the sandwich estimator), with the factor G / (G - 1).
    """
    weights = np.ones(len(values)) if weights is None else weights
    total = float(weights.sum())
    mean = float(values.sum() / total)
    _, index = np.unique(groups, return_inverse=True)
    totals = np.bincount(index, weights=values - mean * weights)
    if len(totals) < 2:
        return mean, float("inf")
    error = np.sqrt(len(totals) / (len(totals) - 1) * (totals**2).sum()) / total
    return mean, float(error)


def ece_by_chance(
    probabilities: np.ndarray, votes: np.ndarray, groups: np.ndarray, bins: int = 10
) -> tuple[float, float]:
    """Mean and standard deviation of :func:`classwise_ece` of a calibrated forecast.

    Even a perfect forecast shows an ECE, the larger the fewer the rows. In a bin the sum of
    forecast minus vote is about normal with variance v = sum of p (1 - p), so its absolute value
    has mean sqrt(2 v / pi) and variance v (1 - 2 / pi). Votes of one prompt hang together: v is
    multiplied by the design effect, the factor by which that widens the error of a mean. The
    classes hang together too, so the deviation is an upper bound.

    Args:
        probabilities: float64 (n, 3).
        votes: labels (n,) or shares (n, 3), for the design effect alone.
        groups: group of each row, (n,).
        bins: as in ``classwise_ece``.
    """
    n, residuals = len(votes), probabilities - shares_of(votes)
    bin_of = bins_of(probabilities, bins)
    means, deviations = [], []
    for c in range(3):
        variance = probabilities[:, c] * (1 - probabilities[:, c])
        of_bins = np.bincount(bin_of[:, c], weights=variance, minlength=bins)
        scatter = residuals[:, c].std()
        _, error = clustered(residuals[:, c], groups)
        if scatter > 0 and np.isfinite(error):
            of_bins *= max(1.0, n * (error / scatter) ** 2)
        means.append(np.sqrt(2 * of_bins / np.pi).sum() / n)
        deviations.append(np.sqrt(of_bins.sum() * (1 - 2 / np.pi)) / n)
    return float(np.mean(means)), float(np.mean(deviations))


def swap_gap(probabilities: np.ndarray, of_swapped: np.ndarray) -> float:
    """Largest |p(x) - unswap(p(swap x))| over rows and classes."""
    if len(probabilities) == 0:
        return 0.0
    return float(np.abs(probabilities - of_swapped[:, SWAP]).max())
