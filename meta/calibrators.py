"""Calibrators: maps of raw scores (n, 3) to probabilities, fitted to votes.

A new calibrator is one class in this file under ``@register``. ``meta.calibration`` then compares
it with the others by cross-fitted log loss, and a saved model names it.

All of those in this file are linear in the log-probabilities (l_A, l_B, l_tie) and answer two
questions, which side wins and whether it is a tie, with at most five coefficients:

    d = side (l_A - l_B) + lean
    t = tie l_tie - both (l_A + l_B) / 2 + bias
    (P(A), P(B), P(tie)) = softmax(d / 2, -d / 2, t)

A swap of A and B flips the sign of d and leaves t where ``lean`` is 0, so P(A) and P(B) trade
places to the last bit. ``side`` and ``tie`` are never negative, so that no calibrator turns a
preference around.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import minimize

from meta.metrics.scores import FLOOR
from meta.votes import shares_of, weights_of

PRIOR_ROWS = 1.0
"""Weight, in rows, of the uncalibrated forecast among the labels.

A prior: as if one more row had been labelled by chance with the forecast's probabilities. It keeps
coefficients finite where labels are separable or a class is missing, on whatever scale scores have.
"""

LARGEST = 100.0
"""Bound of every coefficient: a temperature of .01."""


class Calibrator(ABC):
    """A fitted map of raw scores to probabilities.

    Attributes:
        name: of the method, in files and in tables.
        symmetric: whether a swapped row gets the swapped probabilities. Only symmetric methods are
            compared where nothing else is asked for.
        n_parameters: how many numbers are fitted. Each that is fitted in vain costs 1 / (2 n) nats
            on n rows, so methods are compared from the fewest on.
    """

    name: ClassVar[str]
    symmetric: ClassVar[bool] = True
    n_parameters: ClassVar[int]

    @classmethod
    @abstractmethod
    def fit(cls, raw: np.ndarray, votes: np.ndarray) -> Self:
        """Fit to votes.

        Args:
            raw: scores (n, 3), log-probabilities up to a constant; they never saw the votes.
            votes: labels (n,) or weighted shares (n, 3), see ``meta.votes``. Without a row the map
                changes nothing. Asymmetric methods, which no run uses, take labels only.
        """

    @classmethod
    def fit_in_folds(cls, raw: np.ndarray, votes: np.ndarray, folds: np.ndarray) -> Self:
        """Fit to votes, by folds of the rows where something is chosen by cross-validation.

        Args:
            raw: as for :meth:`fit`.
            votes: likewise.
            folds: int (n,); rows of one group share a fold.
        """
        return cls.fit(raw, votes)

    @abstractmethod
    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Probabilities float64 (n, 3) of raw scores (n, 3)."""

    @abstractmethod
    def coefficients(self) -> dict[str, float]:
        """The fitted numbers by name, from which the constructor makes the same calibrator."""

    def to_json(self) -> dict[str, Any]:
        """The calibrator as an entry of a JSON file, see :func:`from_json`."""
        return {"method": self.name, **self.coefficients()}


CALIBRATORS: dict[str, type[Calibrator]] = {}
"""Every calibrator by its name."""


def register(calibrator: type[Calibrator]) -> type[Calibrator]:
    """Make a calibrator known by its name."""
    CALIBRATORS[calibrator.name] = calibrator
    return calibrator


def from_json(entry: Mapping[str, Any]) -> Calibrator:
    """The calibrator that :meth:`Calibrator.to_json` wrote.

    Raises:
        LookupError, TypeError, ValueError: the entry is damaged.
    """
    numbers = {name: float(value) for name, value in entry.items() if name != "method"}
    return CALIBRATORS[entry["method"]](**numbers)


@dataclass(frozen=True)
class LinearCalibrator(Calibrator):
    """A map with some of the five coefficients free, see the module's docstring."""

    side: float = 1.0
    tie: float = 1.0
    both: float = 1.0
    bias: float = 0.0
    lean: float = 0.0

    free: ClassVar[tuple[tuple[str, ...], ...]]
    """The fitted parameters; each moves the coefficients that it names together."""
    penalty: ClassVar[float] = 0.0
    """In nats on all rows: penalty * (sum of off-diagonal w^2 + sum of b^2) of softmax(W l + b)."""

    def __init_subclass__(cls) -> None:
        """Count the parameters."""
        cls.n_parameters = len(cls.free)

    def coefficients(self) -> dict[str, float]:
        """The five coefficients by name."""
        return asdict(self)

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Probabilities float64 (n, 3) of raw scores (n, 3)."""
        coefficients = np.array(list(self.coefficients().values()))
        probabilities: np.ndarray = np.exp(_log_softmax(_logits(_features(raw), coefficients)))
        return probabilities

    @classmethod
    def fit(cls, raw: np.ndarray, votes: np.ndarray) -> Self:
        """Fit by penalised maximum likelihood, a convex problem; see :meth:`Calibrator.fit`."""
        n = len(votes)
        if not cls.free or n == 0:
            return cls()
        names = [field.name for field in fields(cls)]
        free = np.array([[float(name in together) for name in names] for together in cls.free])
        features = _features(raw)
        start = np.array([1.0, 1.0, 1.0, 0.0, 0.0])
        uncalibrated = np.exp(_log_softmax(_logits(features, start)))
        weights = weights_of(votes)
        total = weights.sum()
        shares = shares_of(votes) / np.where(weights > 0, weights, 1.0)[:, None]
        relative = weights * (n / total)
        target = (shares * total + uncalibrated * PRIOR_ROWS) / (total + PRIOR_ROWS)
        # Parameters on the scale of what they multiply, or L-BFGS would step blindly at first.
        scale = 1 / np.maximum(np.sqrt(_mean_squares(features, free)), 1e-3)

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            coefficients = start + (x * scale) @ free
            log_p = _log_softmax(_logits(features, coefficients))
            gradient = _gradient(features, (np.exp(log_p) - target) * relative[:, None])
            side, _, both, bias, _ = coefficients
            odir = (side - both) ** 2 / 4 + bias**2 * 2 / 3
            gradient += (cls.penalty / total) * np.array(
                [(side - both) / 2, 0.0, (both - side) / 2, bias * 4 / 3, 0.0]
            )
            losses = -(target * log_p).sum(axis=1) * relative
            value = losses.mean() + (cls.penalty / total) * odir
            return float(value), (free @ gradient) * scale

        # A factor (side or tie among its coefficients) starts at 1 and stays positive.
        lowest = np.where(free[:, :2].any(axis=1), -1.0, -LARGEST)
        bounds = [(low / s, LARGEST / s) for low, s in zip(lowest, scale, strict=True)]
        options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
        optimum = minimize(
            loss, np.zeros(len(free)), jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        return cls(*(start + (optimum.x * scale) @ free).tolist())


@register
class Identity(LinearCalibrator):
    """Softmax of the raw scores: nothing is changed."""

    name = "none"
    free = ()


@register
class Temperature(LinearCalibrator):
    """One scale for all scores, 1 / T.

    Source: Guo et al. 2017, "On calibration of modern neural networks".
    """

    name = "temperature"
    free = (("side", "tie", "both"),)


@register
class TieBias(LinearCalibrator):
    """A constant on the tie's score: a wrong tie rate, which no temperature corrects."""

    name = "bias"
    free = (("bias",),)


@register
class BiasCorrectedTemperature(LinearCalibrator):
    """A temperature and a constant on the tie's score.

    Source: Alexandari et al. 2020, "Maximum likelihood with bias-corrected calibration is
    hard-to-beat at label shift adaptation".
    """

    name = "bcts"
    free = (("side", "tie", "both"), ("bias",))


@register
class VectorScaling(LinearCalibrator):
    """A scale for the side, one for the tie, and a constant on the tie's score.

    Vector scaling (Guo et al. 2017) that gives A and B one scale and no constant of their own.
    """

    name = "vector"
    free = (("side",), ("tie", "both"), ("bias",))


@register
class Dirichlet(LinearCalibrator):
    """Dirichlet calibration, softmax(W l + b), where W commutes with the exchange of A and B.

    Then b_A = b_B. Five weights and two constants remain, and the softmax ignores one number added
    to all of a column of W (within the symmetry: two) or to all of b: four count. Unlike vector
    scaling it corrects ties that follow the closeness of the two sides too much or too little.

    Source: Kull et al. 2019, "Beyond temperature scaling". Their off-diagonal and intercept
    regularisation has lambda / 6 and mu / 3 on the mean loss, found by a search. Here it is 1 / n
    for both: a normal prior on each weight with standard deviation .7. It is felt by tens of rows
    and gone by thousands, so that there is no search that could over-fit.
    """

    name = "dirichlet"
    free = (("side",), ("tie",), ("both",), ("bias",))
    penalty = 1.0


@register
class PositionBias(LinearCalibrator):
    """Vector scaling and a constant on the side, for forecasts that favour the answer shown first.

    With ``meta.full_dirichlet`` one of the two asymmetric methods.
    """

    name = "lean"
    symmetric = False
    free = (*VectorScaling.free, ("lean",))


def log_probabilities(raw: np.ndarray) -> np.ndarray:
    """Log-probabilities float64 (n, 3) of raw scores (n, 3), none of them below ``FLOOR``."""
    raw = np.ascontiguousarray(raw, dtype=np.float64)
    return np.asarray(np.maximum(_log_softmax(raw), np.log(FLOOR)))


def _features(raw: np.ndarray) -> np.ndarray:
    """What the coefficients multiply: l_A - l_B, l_tie, (l_A + l_B) / 2; float64 (3, n)."""
    a, b, tie = log_probabilities(raw).T
    return np.stack([a - b, tie, (a + b) / 2])


def _logits(features: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Logits (n, 3) from features (3, n) and the five coefficients."""
    side, tie, both, bias, lean = coefficients
    d = side * features[0] + lean
    t = tie * features[1] - both * features[2] + bias
    return np.stack([d / 2, -d / 2, t], axis=1)


def _log_softmax(z: np.ndarray) -> np.ndarray:
    """Log-probabilities (n, 3); A and B are added first, so that a swap swaps to the last bit."""
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(z)
    shifted: np.ndarray = z - np.log((e[:, 0] + e[:, 1]) + e[:, 2])[:, None]
    return shifted


def _gradient(features: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Gradient of the mean loss by the five coefficients, (5,)."""
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


def _mean_squares(features: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Mean of d^2 + t^2 that a unit of each parameter makes, (k,)."""
    zero = np.zeros_like(features[0])
    one = np.ones_like(zero)
    d = free @ np.stack([features[0], zero, zero, zero, one])
    t = free @ np.stack([zero, features[1], -features[2], one, zero])
    squares: np.ndarray = (d**2 + t**2).mean(axis=1)
    return squares
