"""Statistics that several checks share."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

from arena.folds import fold_of
from arena.schema import SEED
from meta.audit.context import AuditContext
from meta.metrics.bootstrap import resample
from meta.metrics.scores import clustered, placements

SURE = 2.576
"""Standard errors of a 99% interval, for checks that compare a figure with one value: each of them
fails one audit of a correct model in a hundred, not one in twenty."""

STEPS = 25
"""Newton steps of a logistic fit; some six suffice."""

LIMIT = 5_000
"""Battles that the columns of a design matrix are ranked by."""

CHANCE = 0.01
"""False alarms an audit that a check of all columns together may raise."""

CHUNK = 50
"""Bootstrap draws fitted at a time, which bounds the memory."""


def columns_of(context: AuditContext) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, values (m, d) and whether they flip under a swap (d,) of the design's columns.

    Of two paired columns the first becomes their difference and the second their sum.
    """
    names, values = context.design.names, context.design.values.copy()
    flips = np.array([column.parity == "anti" for column in context.design.columns.values()])
    place = {name: i for i, name in enumerate(names)}
    for i, column in enumerate(context.design.columns.values()):
        j = place[column.partner] if column.partner else -1
        if j > i:
            one, two = context.design.values[:, i], context.design.values[:, j]
            values[:, i], values[:, j] = one - two, one + two
            flips[i] = True
    return names, values, flips


def subsample(rows: int, limit: int) -> np.ndarray:
    """Sorted positions of at most ``limit`` of ``rows`` rows, drawn without replacement."""
    if rows <= limit:
        return np.arange(rows)
    return np.sort(np.random.default_rng(SEED).choice(rows, limit, replace=False))


def folds_of(groups: np.ndarray, folds: int) -> np.ndarray:
    """Fold of each group, int (n,), by a hash of its name that no other folds are made by.

    Scored rows may share a fold of the cross-validation, or of a fine-tuning.
    """
    return fold_of((sha256(f"audit {group}".encode()).hexdigest() for group in groups), folds)


def soft_logistic(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray, ridge: float = 1.0
) -> np.ndarray:
    """Logistic regressions without intercept of shares on columns, one for each row of weights.

    Args:
        x: float64 (n, p).
        y: float64 (n,) in [0, 1]: votes or probabilities.
        weights: float64 (k, n).
        ridge: half this times the squared coefficients is added to the loss (in rows' nats), which
            keeps them finite where the columns separate the votes.

    Returns:
        Coefficients, float64 (k, p).
    """
    k, p = len(weights), x.shape[1]
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), p * p)
    beta = np.zeros((k, p))
    for _ in range(STEPS):
        s = expit(beta @ x.T)
        gradient = (weights * (y - s)) @ x - ridge * beta
        hessian = ((weights * s * (1 - s)) @ products).reshape(k, p, p) + ridge * np.eye(p)
        # A step of more than 1 comes from outliers, and would overshoot.
        step = np.clip(np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0], -1, 1)
        beta += step
        if np.abs(step).max() < 1e-7:
            break
    return beta


def slope_gap(
    x: np.ndarray, forecast: np.ndarray, votes: np.ndarray, groups: np.ndarray, draws: int
) -> tuple[float, float, float]:
    """Slope of a forecast and of the votes on the first column, and the error of their difference.

    Args:
        x: float64 (n, p); the other columns are held constant.
        forecast: float64 (n,), forecast that A wins.
        votes: float64 (n,), 1 where A won.
        groups: group of each row, (n,).
        draws: bootstrap draws over groups.

    Returns:
        Slope of the forecast's log-odds, slope of the votes' log-odds, bootstrap standard error of
        the first minus the second.
    """
    unit = np.ones((1, len(x)))
    ours, theirs = (float(soft_logistic(x, y, unit)[0, 0]) for y in (forecast, votes))
    _, index = np.unique(groups, return_inverse=True)
    weights = np.concatenate([counts[:, index] for counts in resample(int(index.max()) + 1, draws)])
    gaps = [
        soft_logistic(x, forecast, chunk)[:, 0] - soft_logistic(x, votes, chunk)[:, 0]
        for chunk in np.array_split(weights, -(-draws // CHUNK))
    ]
    return ours, theirs, float(np.concatenate(gaps).std())


def auc_by_column(values: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve of each column alone, and how sure it is that it is not 0.5.

    Args:
        values: float (n, d); NaN is left out.
        positive: bool (n,).

    Returns:
        AUC in [0, 1], float64 (d,), 0.5 where a column or a class is empty; and (AUC - 0.5) over
        its standard error under no effect (Mann and Whitney 1947), float64 (d,).
    """
    known = ~np.isnan(values)
    ones, zeros = (known[side].sum(axis=0) for side in (positive, ~positive))
    # How often one of the first is above one of the second; a tie is half of that.
    ranks = rankdata(values, axis=0, nan_policy="omit")
    wins = np.nansum(ranks[positive], axis=0) - ones * (ones + 1) / 2
    both = ones * zeros > 0
    pairs = np.where(both, ones * zeros, 1)
    auc = np.where(both, wins / pairs, 0.5)
    z = (auc - 0.5) / np.sqrt((ones + zeros + 1) / (12 * pairs))
    return auc, z


def auc_with_error(
    scores: np.ndarray, positive: np.ndarray, groups: np.ndarray
) -> tuple[float, float]:
    """AUC of a score and its standard error by the placements of both classes.

    Source: DeLong et al. 1988; the variances are those of clustered means.

    Args:
        scores: float (n,), finite.
        positive: bool (n,), both classes occur.
        groups: group of each row, (n,).
    """
    shares = placements(scores, positive)
    auc, first = clustered(shares[positive], groups[positive])
    _, second = clustered(shares[~positive], groups[~positive])
    return auc, float(np.hypot(first, second))
