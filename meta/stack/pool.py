"""The log-opinion pool of boosters and a forest: a weighted sum of their log-probabilities.

Genest and Zidek 1986, "Combining probability distributions: a critique and an annotated
bibliography". Forecasts that err in different places are together surer than each by itself
(Satopää et al. 2014, "Combining multiple probability predictions using a simple logit model"), so
the weights need not add up to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from arena.schema import TIE
from meta.calibrators import log_probabilities
from meta.metrics.scores import log_loss
from meta.votes import weights_of

PULL = 10.0
"""Nats on all rows for a unit between the two weights, or between their sum and 1: few rows hardly
move them away from the plain mean."""

LARGEST = 1e9
"""No fit comes near; a file with more would make scores that no number can hold."""

TIE_SCORE = np.eye(3)[TIE]


@dataclass(frozen=True)
class Pool:
    """Weights of both, and a constant on the tie's score, since a sum of scores has its own."""

    boosters: float = 0.5
    forest: float = 0.5
    tie: float = 0.0

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Pool:
        """The pool of an entry of a JSON file.

        Raises:
            ArithmeticError, AttributeError, TypeError, ValueError: the entry is damaged.
        """
        pool = cls(**{name: float(weight) for name, weight in entry.items()})
        weights = pool.boosters, pool.forest
        if not (all(0 <= w <= LARGEST for w in weights) and abs(pool.tie) <= LARGEST):
            raise ValueError("a weight of the pool is none")
        return pool

    @property
    def share(self) -> float:
        """The forest's part of the weights, 0 to 1."""
        total = self.boosters + self.forest
        return self.forest / total if total > 0 else 0.0

    def __call__(self, boosters: np.ndarray, forest: np.ndarray) -> np.ndarray:
        """Raw scores (n, 3) of the pool.

        Args:
            boosters: raw scores (n, 3).
            forest: log-probabilities (n, 3).
        """
        return self._sum(log_probabilities(boosters), forest)

    def _sum(self, boosters: np.ndarray, forest: np.ndarray) -> np.ndarray:
        total: np.ndarray = self.boosters * boosters + self.forest * forest + self.tie * TIE_SCORE
        return total

    @classmethod
    def fit(cls, boosters: np.ndarray, forest: np.ndarray, votes: np.ndarray) -> Pool:
        """The pool of the lowest log loss; three numbers, a convex problem.

        Args:
            boosters: raw scores (n, 3) of rows that the boosters did not see.
            forest: log-probabilities (n, 3) of rows that the forest's trees did not see.
            votes: labels (n,) or weighted shares (n, 3), see ``meta.votes``.
        """
        boosters, nats = log_probabilities(boosters), weights_of(votes).sum()

        def loss(x: np.ndarray) -> float:
            pool = cls(*x)
            found = np.exp(log_probabilities(pool._sum(boosters, forest)))
            apart, beyond = pool.boosters - pool.forest, pool.boosters + pool.forest - 1
            return float(nats * log_loss(found, votes) + PULL * (apart**2 + beyond**2))

        start = cls()
        x = [start.boosters, start.forest, start.tie]
        bounds = [(0.0, None), (0.0, None), (None, None)]
        return cls(*minimize(loss, x, method="L-BFGS-B", bounds=bounds).x.tolist())
