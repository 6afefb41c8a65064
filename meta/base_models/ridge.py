"""Ridge regression from sums: one pass over the rows of each fold serves every set left out.

A fit adds up the sums of the folds that it sees, so no number of a left-out row is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas, cho_factor, cho_solve


@dataclass
class RidgeSums:
    """Weighted sums over rows of d columns and a target: all that a fit needs of them."""

    weight: float
    x: np.ndarray
    """float64 (d,)."""
    y: float
    xx: np.ndarray
    """float32 (d, d) in Fortran's order: the Gram matrix, in its lower triangle alone."""
    xy: np.ndarray
    """float64 (d,)."""

    @classmethod
    def zeros(cls, columns: int) -> RidgeSums:
        """Sums of no rows."""
        square = np.zeros((columns, columns), np.float32, order="F")
        return cls(0.0, np.zeros(columns), 0.0, square, np.zeros(columns))

    @classmethod
    def total(cls, parts: Sequence[RidgeSums]) -> RidgeSums:
        """The sums of the rows of all parts, at least one."""
        first, *others = parts
        total = cls(first.weight, first.x.copy(), first.y, np.copy(first.xx), first.xy.copy())
        for part in others:
            total.weight += part.weight
            total.x += part.x
            total.y += part.y
            total.xx += part.xx
            total.xy += part.xy
        return total

    @property
    def mean(self) -> np.ndarray:
        """Of each column, float32 (d,); 0 of no rows."""
        return (self.x / (self.weight or 1.0)).astype(np.float32)

    def add(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> None:
        """Add a block of rows.

        Args:
            x: float32 (n, d).
            y: each row's target times its weight, (n,).
            weights: (n,).
        """
        weights, y = weights.astype(np.float32), y.astype(np.float32)
        weighted = x if (weights == 1).all() else x * np.sqrt(weights)[:, None]
        self.weight += float(weights.sum())
        self.x += weights @ x
        self.y += float(y.sum())
        self.xx = blas.ssyrk(1.0, weighted.T, 1.0, self.xx, lower=True, overwrite_c=True)
        self.xy += y @ x

    def solve(self, penalty: float, *, intercept: bool) -> tuple[np.ndarray, float]:
        """Least squares with a penalty on the weights; ``xx`` is used up.

        Args:
            penalty: times the number of columns, it counts the squared weight of each column that
                is scaled to unit size. Twice as many columns may each explain half as much, and
                the more rows there are, the less it matters.
            intercept: whether columns and target are centred. Without it, the prediction changes
                sign with the columns.

        Returns:
            Weights on unscaled columns, float32 (d,), and the intercept, 0 without one.
        """
        columns, mean = len(self.x), self.mean
        if self.weight == 0:
            return np.zeros(columns, np.float32), 0.0
        target, cross = self.y / self.weight, self.xy
        if intercept:
            self.xx = blas.ssyr(-self.weight, mean, lower=True, a=self.xx, overwrite_a=True)
            cross = cross - self.x * target
        square = self.xx.diagonal() / self.weight
        # A column that never varies keeps 1.
        square = np.where(square > 1e-16, square, 1.0)
        self.xx[np.diag_indices(columns)] += (penalty * columns * square).astype(np.float32)
        factor = cho_factor(self.xx, lower=True, overwrite_a=True, check_finite=False)
        weights = cho_solve(factor, cross.astype(np.float32), check_finite=False)
        return weights, float(target - mean @ weights) if intercept else 0.0
