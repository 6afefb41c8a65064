"""Calibrators that keep the swap symmetry, and the choice among them.

A calibrator maps raw class scores z (log-probabilities up to a constant) to probabilities:

* ``none``: softmax(z),
* ``temperature``: softmax(z / T) (Guo et al. 2017),
* ``vector``: softmax([s z_A, s z_B, s_tie z_tie + b]): vector scaling made symmetric by giving A
  and B one scale and no bias of their own. Unlike a temperature it can mend a wrong tie rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from meta.scores import log_loss

METHODS = ("none", "temperature", "vector")
WORTH_IT = 1e-4
"""Out-of-fold gain in log loss (nats) below which a calibrator is not worth its parameters."""


@dataclass(frozen=True)
class Calibrator:
    """softmax([scale z_A, scale z_B, tie_scale z_tie + tie_bias])."""

    method: str = "none"
    scale: float = 1.0
    tie_scale: float = 1.0
    tie_bias: float = 0.0

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Probabilities (n, 3) of raw scores (n, 3)."""
        z = raw - raw.mean(axis=1, keepdims=True)
        scaled = np.stack(
            [self.scale * z[:, 0], self.scale * z[:, 1], self.tie_scale * z[:, 2] + self.tie_bias],
            axis=1,
        )
        probabilities: np.ndarray = softmax(scaled, axis=1)
        return probabilities

    @classmethod
    def fit(cls, method: str, raw: np.ndarray, labels: np.ndarray) -> Calibrator:
        """Fit ``method`` on raw scores (n, 3) and labels (n,) that the scores never saw."""
        if method == "none":
            return cls()
        z = raw - raw.mean(axis=1, keepdims=True)
        rows = np.arange(len(labels))

        def unpack(x: np.ndarray) -> tuple[float, float, float]:
            if method == "temperature":
                return float(np.exp(x[0])), float(np.exp(x[0])), 0.0
            return float(np.exp(x[0])), float(np.exp(x[1])), float(x[2])

        def loss(x: np.ndarray) -> float:
            scale, tie_scale, bias = unpack(x)
            scaled = np.stack([scale * z[:, 0], scale * z[:, 1], tie_scale * z[:, 2] + bias], 1)
            return float(-log_softmax(scaled, axis=1)[rows, labels].mean())

        start = np.zeros(1 if method == "temperature" else 3)
        bounds = [(-3.0, 3.0)] * len(start)
        found = minimize(loss, start, method="L-BFGS-B", bounds=bounds)
        return cls(method, *unpack(found.x))


def choose(
    raw: np.ndarray, labels: np.ndarray, folds: np.ndarray
) -> tuple[Calibrator, dict[str, float]]:
    """Choose a calibrator by its cross-fitted log loss.

    Each method is fitted on all folds but one and scored on that one. The best replaces ``none``
    only where it gains more than ``WORTH_IT``.

    Args:
        raw: out-of-fold raw scores (n, 3).
        labels: int (n,).
        folds: int (n,).

    Returns:
        The chosen calibrator, fitted on all rows, and each method's cross-fitted log loss.
    """
    losses: dict[str, float] = {}
    for method in METHODS:
        probabilities = np.empty_like(raw)
        for fold in np.unique(folds):
            held = folds == fold
            fitted = Calibrator.fit(method, raw[~held], labels[~held])
            probabilities[held] = fitted(raw[held])
        losses[method] = log_loss(probabilities, labels)
    best = min(METHODS, key=lambda m: losses[m])
    if losses["none"] - losses[best] < WORTH_IT:
        best = "none"
    return Calibrator.fit(best, raw, labels), losses
