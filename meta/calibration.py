"""Calibrators that keep the swap symmetry, and the choice among them.

A calibrator reads the log-probabilities (l_A, l_B, l_tie) and tells two things: which side, and
whether a tie.

    d = side (l_A - l_B),  t = tie l_tie - both (l_A + l_B) / 2 + bias
    (P(A), P(B), P(tie)) = softmax(d / 2, -d / 2, t)

* ``none``: side = tie = both = 1, bias = 0,
* ``temperature``: side = tie = both = 1 / T (Guo et al. 2017, "On calibration of modern neural
  networks"),
* ``bias``: the bias alone is free. It mends a wrong tie rate, which a temperature cannot,
* ``bcts``: a temperature and the bias (Alexandari et al. 2020, "Maximum likelihood with
  bias-corrected calibration is hard-to-beat at label shift adaptation"),
* ``vector``: tie = both. Vector scaling (Guo et al. 2017) that gives A and B one scale and no bias
  of their own,
* ``dirichlet``: all four are free. Dirichlet calibration, softmax(W l + b) (Kull et al. 2019,
  "Beyond temperature scaling"), where W commutes with the exchange of A and B and b_A = b_B. Five
  weights and two biases remain, and the softmax ignores one number added to all of a column of W
  (within the symmetry: two) or to all of b: four count. Unlike ``vector`` it can mend ties that
  follow the closeness of the two sides too much or too little.

A swap flips the sign of d and leaves t, so P(A) and P(B) trade places to the last bit. No
calibrator turns a preference around: side and tie are never negative.

``lean`` is the one asymmetric method: ``vector`` and a constant added to d, for forecasts of other
people that favour the answer shown first. It is in no choice that does not ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from meta.metrics.scores import FLOOR, clustered, log_loss, row_losses

METHODS = ("none", "temperature", "bias", "bcts", "vector", "dirichlet")
"""The symmetric methods, simplest first: 0, 1, 1, 2, 3 and 4 parameters. Each parameter that is
fitted in vain costs 1 / (2 n) nats on n rows, so that a file gets as few as will do."""

WORTH_IT = 1e-4
"""Out-of-fold gain in log loss (nats) below which a calibrator is not worth its parameters."""

SURE = 1.645
"""Standard errors that a gain must exceed: the one-sided 95% point of a normal distribution.

On good forecasts twice the in-sample gain over n rows is chi-squared x with k degrees of freedom (k
parameters). The cross-fitted gain is about x / 2 - k nats, its standard error sqrt(x), so that the
rule asks for x > 14.5 where k = 1, a mere gain for x > 2. The price: a calibrator that would gain
less than some 7 / n nats is often passed over. ``benchmarks/calibration.py`` measures both.
"""

ENOUGH = 3.0
"""Nats of all rows together that a gain must exceed: odds of 20 to 1. The standard error alone is
blind where few rows all say the same: three rows without a tie, say, to a smaller bias of ties."""

OWN_OPINION = 1.0
"""Weight, in rows, of the forecast's own opinion among the labels.

A prior: as if one more row had been labelled by chance with the forecast's probabilities. It keeps
parameters finite where labels are separable or a class is missing, on whatever scale scores have.
"""

ODIR = 1.0
"""Penalty of ``dirichlet``, in nats on all rows: ODIR * (sum of off-diagonal w^2 + sum of b^2).

The off-diagonal and intercept regularisation of Kull et al. 2019, there lambda / 6 and
mu / 3 on the mean loss, found by a search. Here 1 / n for both: a normal prior on
each weight with standard deviation .7. It is felt by tens of rows and gone by thousands, so that
there is no search that could over-fit.
"""

FREE: Mapping[str, np.ndarray] = {
    name: np.array(rows, dtype=np.float64).reshape(-1, 5)
    for name, rows in {
        "none": [],
        "temperature": [[1, 1, 1, 0, 0]],
        "bias": [[0, 0, 0, 1, 0]],
        "bcts": [[1, 1, 1, 0, 0], [0, 0, 0, 1, 0]],
        "vector": [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0]],
        "dirichlet": [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]],
        "lean": [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]],
    }.items()
}
"""What each free parameter of a method adds to (side, tie, both, bias, lean)."""

LARGEST = 100.0
"""Bound of every parameter: a temperature of .01."""


@dataclass(frozen=True)
class Calibrator:
    """A map of raw scores to probabilities; ``dataclasses.asdict`` gives its JSON."""

    method: str = "none"
    side: float = 1.0
    tie: float = 1.0
    both: float = 1.0
    bias: float = 0.0
    lean: float = 0.0

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Probabilities float64 (n, 3) of raw scores (n, 3)."""
        parameters = np.array([self.side, self.tie, self.both, self.bias, self.lean])
        probabilities: np.ndarray = np.exp(_log_softmax(_logits(_features(raw), parameters)))
        return probabilities

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """The same map as softmax(W l + b): W (3, 3) and b (3,).

        Among the many that are equal to the softmax, the one of least off-diagonal weights and
        biases.
        """
        off = (self.side - self.both) / 4
        W = np.array([[self.side - off, -off, 0], [-off, self.side - off, 0], [off, off, self.tie]])
        b = np.array([-self.bias / 3, -self.bias / 3, 2 * self.bias / 3])
        return W, b + np.array([self.lean / 2, -self.lean / 2, 0])

    @classmethod
    def fit(cls, method: str, raw: np.ndarray, labels: np.ndarray) -> Calibrator:
        """Fit ``method`` by penalised maximum likelihood, a convex problem.

        Args:
            method: one of ``METHODS``, or ``lean``.
            raw: scores (n, 3), log-probabilities up to a constant; they never saw the labels.
            labels: int (n,), 0 A, 1 B, 2 tie. Without a row the map is that of ``none``.
        """
        free, n = FREE[method], len(labels)
        if len(free) == 0 or n == 0:
            return cls(method)
        features = _features(raw)
        start = np.array([1.0, 1.0, 1.0, 0.0, 0.0])
        own = np.exp(_log_softmax(_logits(features, start)))
        target = (np.eye(3)[labels] * n + own * OWN_OPINION) / (n + OWN_OPINION)
        penalty = ODIR / n if method == "dirichlet" else 0.0
        # Parameters on the scale of what they multiply, or L-BFGS would step blindly at first.
        scale = 1 / np.maximum(np.sqrt(_sizes(features, free)), 1e-3)

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            parameters = start + (x * scale) @ free
            log_p = _log_softmax(_logits(features, parameters))
            residual = np.exp(log_p) - target
            slope = _slope(features, residual)
            side, _, both, bias, _ = parameters
            odir = (side - both) ** 2 / 4 + bias**2 * 2 / 3
            slope += penalty * np.array(
                [(side - both) / 2, 0.0, (both - side) / 2, bias * 4 / 3, 0.0]
            )
            value = -(target * log_p).sum(axis=1).mean() + penalty * odir
            return float(value), (free @ slope) * scale

        # A factor (side or tie among its targets) starts at 1 and stays positive.
        lowest = np.where(free[:, :2].any(axis=1), -1.0, -LARGEST)
        bounds = [(low / s, LARGEST / s) for low, s in zip(lowest, scale, strict=True)]
        options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
        found = minimize(
            loss, np.zeros(len(free)), jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        return cls(method, *(start + (found.x * scale) @ free).tolist())


def _features(raw: np.ndarray) -> np.ndarray:
    """What the parameters multiply: l_A - l_B, l_tie, (l_A + l_B) / 2; float64 (3, n)."""
    raw = np.ascontiguousarray(raw, dtype=np.float64)
    a, b, tie = np.maximum(_log_softmax(raw), np.log(FLOOR)).T
    return np.stack([a - b, tie, (a + b) / 2])


def _logits(features: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    side, tie, both, bias, lean = parameters
    d = side * features[0] + lean
    t = tie * features[1] - both * features[2] + bias
    return np.stack([d / 2, -d / 2, t], axis=1)


def _log_softmax(z: np.ndarray) -> np.ndarray:
    """Log-probabilities (n, 3); A and B are added first, so that a swap swaps to the last bit."""
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(z)
    shifted: np.ndarray = z - np.log((e[:, 0] + e[:, 1]) + e[:, 2])[:, None]
    return shifted


def _slope(features: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Gradient of the mean loss by (side, tie, both, bias, lean), (5,)."""
    by_d, by_t = (residual[:, 0] - residual[:, 1]) / 2, residual[:, 2]
    n = len(residual)
    return np.array(
        [
            by_d @ features[0] / n,
            by_t @ features[1] / n,
            -by_t @ features[2] / n,
            by_t.mean(),
            by_d.mean(),
        ]
    )


def _sizes(features: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Mean of d^2 + t^2 that each row of ``free`` stands for, (k,)."""
    flat = np.zeros_like(features[0])
    one = np.ones_like(flat)
    d = free @ np.stack([features[0], flat, flat, flat, one])
    t = free @ np.stack([flat, features[1], -features[2], one, flat])
    sizes: np.ndarray = (d**2 + t**2).mean(axis=1)
    return sizes


def cross_fitted(method: str, raw: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Probabilities (n, 3) of each row by ``method`` fitted on the other folds only."""
    probabilities = np.empty(raw.shape)
    for fold in np.unique(folds):
        held = folds == fold
        fitted = Calibrator.fit(method, raw[~held], labels[~held])
        probabilities[held] = fitted(raw[held])
    return probabilities


def worth_keeping(
    probabilities: Mapping[str, np.ndarray], labels: np.ndarray, groups: np.ndarray
) -> str:
    """The method to keep, by cross-fitted log loss.

    From the first method on, a later one replaces the one held so far only where its gain exceeds
    ``WORTH_IT``, ``ENOUGH`` nats over all rows, and ``SURE`` standard errors of the paired
    difference, groups being the units.
    (The one-standard-error rule of Breiman et al. 1984, section 3.4.3, made stricter.)

    Args:
        probabilities: by method, simplest first: cross-fitted, (n, 3).
        labels: int (n,).
        groups: group of each row, (n,).
    """
    losses = {method: row_losses(p, labels) for method, p in probabilities.items()}
    kept, *others = losses
    for method in others:
        gain, error = clustered(losses[kept] - losses[method], groups)
        if gain > max(WORTH_IT, SURE * error, ENOUGH / len(labels)):
            kept = method
    return kept


def choose(
    raw: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    groups: np.ndarray | None = None,
    methods: Sequence[str] = METHODS,
) -> tuple[Calibrator, dict[str, float]]:
    """Choose a calibrator by its cross-fitted log loss (see :func:`worth_keeping`).

    Args:
        raw: out-of-fold raw scores (n, 3).
        labels: int (n,).
        folds: int (n,); rows of one group share a fold.
        groups: group of each row, (n,); every row is one of its own by default.
        methods: those to compare, simplest first.

    Returns:
        The chosen calibrator, fitted on all rows, and each method's cross-fitted log loss.
    """
    found = {method: cross_fitted(method, raw, labels, folds) for method in methods}
    kept = worth_keeping(found, labels, np.arange(len(labels)) if groups is None else groups)
    return Calibrator.fit(kept, raw, labels), {m: log_loss(p, labels) for m, p in found.items()}
