"""How good a table of probabilities is, and whether one table beats another.

Every function takes ``probabilities`` float64 (n, 3) in the order of ``arena.battle.CLASSES`` and
``labels`` int (n,) with values 0, 1, 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arena.battle import SEED, A, B

FLOOR = 1e-15
"""Probabilities are clipped here before the logarithm, as Kaggle's scorer and scikit-learn do."""

SWAP = np.array([B, A, 2])
"""Class order after A and B change places."""


def row_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each row's label, in nats; shape (n,)."""
    chosen = probabilities[np.arange(len(labels)), labels]
    losses: np.ndarray = -np.log(np.clip(chosen, FLOOR, 1.0))
    return losses


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean multiclass log loss, in nats."""
    return float(row_losses(probabilities, labels).mean())


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance to the one-hot label, summed over classes: 0 (best) to 2."""
    return float(((probabilities - np.eye(3)[labels]) ** 2).sum(axis=1).mean())


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose most probable class is the label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def classwise_ece(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Class-wise expected calibration error: mean over classes of the binned |forecast - rate|.

    Bins hold equally many rows. Kull et al. 2019, "Beyond temperature scaling", section 3.
    """
    errors = []
    for c in range(3):
        order = np.argsort(probabilities[:, c], kind="stable")
        gaps = [
            len(rows) * abs(probabilities[rows, c].mean() - (labels[rows] == c).mean())
            for rows in np.array_split(order, bins)
            if len(rows)
        ]
        errors.append(sum(gaps) / len(labels))
    return float(np.mean(errors))


def swap_gap(probabilities: np.ndarray, of_swapped: np.ndarray) -> float:
    """Largest |p(x) - unswap(p(swap x))| over rows and classes."""
    if len(probabilities) == 0:
        return 0.0
    return float(np.abs(probabilities - of_swapped[:, SWAP]).max())


@dataclass(frozen=True)
class Comparison:
    """A paired difference of mean log losses (first minus second), with its 95% interval."""

    difference: float
    low: float
    high: float
    share_better: float
    """Share of bootstrap draws in which the first has the lower loss."""


def paired_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray,
    draws: int = 2000,
    seed: int = SEED,
) -> Comparison:
    """Compare two forecasts of the same rows by a bootstrap over prompt groups.

    Args:
        first: per-row losses of the first forecast, (n,).
        second: per-row losses of the second forecast, (n,).
        groups: group of each row, (n,); whole groups are drawn with replacement.
        draws: number of bootstrap draws.
        seed: of the draws.
    """
    _, index = np.unique(groups, return_inverse=True)
    size = np.bincount(index)
    total = np.bincount(index, weights=first - second)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for i in range(draws):
        drawn = rng.integers(0, len(size), len(size))
        means[i] = total[drawn].sum() / size[drawn].sum()
    low, high = np.quantile(means, [0.025, 0.975])
    return Comparison(
        float((first - second).mean()), float(low), float(high), float((means < 0).mean())
    )
