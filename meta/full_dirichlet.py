"""Dirichlet calibration with every weight free, for forecasts that treat A and B differently."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from meta.calibrators import PRIOR_ROWS, Calibrator, log_probabilities

STRENGTHS = (1000.0, 100.0, 10.0, 1.0)
PENALTIES = tuple(itertools.product(STRENGTHS, STRENGTHS))
"""Penalties that are tried, of off-diagonal weights and of constants, in nats on all rows, the
strictest first. Each is a normal prior with standard deviation sqrt(1 / 2 / penalty): .02 to .7."""

INNER_FOLDS = 5
"""Folds by which penalties are chosen."""

OFF_DIAGONAL = ~np.eye(3, dtype=bool)


@dataclass(frozen=True)
class FullDirichlet(Calibrator):
    """softmax(W l + b) of log-probabilities l, where W (3, 3) and b (3,) are free.

    It finds what no symmetric map may: that ties are taken for A more often than for B, say. The
    field ``<to>_<from>`` is the weight of l_from in the logit of ``to``; ``a``, ``b``, ``tie`` are
    the constants. Nothing keeps a swapped row's probabilities swapped, so no run may use it.

    Source: Kull et al. 2019, "Beyond temperature scaling", with their off-diagonal and intercept
    regularisation (ODIR). The softmax ignores one number added to all of a column of W or of b:
    eight parameters count.
    """

    a_a: float = 1.0
    a_b: float = 0.0
    a_tie: float = 0.0
    a: float = 0.0
    b_a: float = 0.0
    b_b: float = 1.0
    b_tie: float = 0.0
    b: float = 0.0
    tie_a: float = 0.0
    tie_b: float = 0.0
    tie_tie: float = 1.0
    tie: float = 0.0

    name = "full_dirichlet"
    symmetric = False
    n_parameters = 8

    @classmethod
    def fit(cls, raw: np.ndarray, labels: np.ndarray) -> Self:
        """Fit with the weakest of the penalties; see :meth:`Calibrator.fit`."""
        return cls._fit(raw, labels, PENALTIES[-1])

    @classmethod
    def fit_in_folds(cls, raw: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Self:
        """Fit with the penalties of the lowest cross-validated log loss on these rows."""
        inner = np.unique(folds, return_inverse=True)[1] % INNER_FOLDS
        losses = [0.0] * len(PENALTIES)
        for fold in np.unique(inner):
            validation = inner == fold
            for i, penalties in enumerate(PENALTIES):
                p = cls._fit(raw[~validation], labels[~validation], penalties)(raw[validation])
                losses[i] -= float(np.log(p[np.arange(len(p)), labels[validation]]).sum())
        return cls._fit(raw, labels, PENALTIES[int(np.argmin(losses))])

    @classmethod
    def _fit(cls, raw: np.ndarray, labels: np.ndarray, penalties: tuple[float, float]) -> Self:
        """Fit by penalised maximum likelihood: a convex problem, by Newton's method."""
        n = len(labels)
        if n == 0:
            return cls()
        features = _with_constant(raw)
        start = np.eye(3, 4)
        target = (np.eye(3)[labels] * n + _softmax(features @ start.T) * PRIOR_ROWS) / (
            n + PRIOR_ROWS
        )
        penalty = np.zeros((3, 4))
        penalty[:, :3][OFF_DIAGONAL], penalty[:, 3] = penalties
        products = np.einsum("ni,nj->nij", features, features).reshape(n, 16)

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            weights = x.reshape(3, 4)
            log_p = log_softmax(features @ weights.T, axis=1)
            value = -(target * log_p).sum() + (penalty * weights**2).sum()
            gradient = (np.exp(log_p) - target).T @ features + 2 * penalty * weights
            return float(value) / n, gradient.ravel() / n

        def hessian(x: np.ndarray) -> np.ndarray:
            p = _softmax(features @ x.reshape(3, 4).T)
            # d p_i / d logit_j, for each pair of classes.
            slopes = np.stack([p[:, [i]] * (np.eye(3)[i] - p) for i in range(3)], axis=1)
            blocks = (slopes.reshape(n, 9).T @ products).reshape(3, 3, 4, 4)
            curvature = blocks.transpose(0, 2, 1, 3).reshape(12, 12)
            return np.asarray((curvature + 2 * np.diag(penalty.ravel())) / n)

        optimum = minimize(
            loss,
            start.ravel(),
            jac=True,
            hess=hessian,
            method="trust-exact",
            options={"gtol": 1e-8},
        )
        return cls(*optimum.x.tolist())

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Probabilities float64 (n, 3) of raw scores (n, 3)."""
        weights = np.array(list(self.coefficients().values())).reshape(3, 4)
        return _softmax(_with_constant(raw) @ weights.T)

    def coefficients(self) -> dict[str, float]:
        """The twelve weights and constants by name."""
        return asdict(self)


def _with_constant(raw: np.ndarray) -> np.ndarray:
    """Log-probabilities of raw scores (n, 3), and a column of ones: (n, 4)."""
    return np.column_stack([log_probabilities(raw), np.ones(len(raw))])


def _softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(log_softmax(logits, axis=1)))
