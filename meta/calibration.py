"""The choice among calibrators by cross-fitted log loss, and its use on a file of forecasts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arena.folds import fold_of
from arena.predictions_file import Forecasts
from arena.schema import UNKNOWN
from common.errors import Code, UserError
from meta.calibrators import CALIBRATORS, Calibrator, register
from meta.full_dirichlet import FullDirichlet
from meta.metrics.scores import FLOOR, clustered, log_loss, row_losses
from meta.votes import weights_of

register(FullDirichlet)
FEWEST_FIRST = sorted(CALIBRATORS.values(), key=lambda calibrator: calibrator.n_parameters)

METHODS = tuple(calibrator.name for calibrator in FEWEST_FIRST if calibrator.symmetric)
"""Names of the symmetric methods, those of the fewest parameters first."""

ASYMMETRIC = tuple(calibrator.name for calibrator in FEWEST_FIRST if not calibrator.symmetric)
"""Names of the methods that treat A and B differently, likewise."""

MIN_GAIN = 1e-4
"""Out-of-fold gain in log loss (nats) below which a calibrator is not worth its parameters."""

MIN_STANDARD_ERRORS = 1.645
"""Standard errors that a gain must exceed: the one-sided 95% point of a normal distribution.

On good forecasts twice the in-sample gain over n rows is chi-squared x with k degrees of freedom (k
parameters). The cross-fitted gain is about x / 2 - k nats, its standard error sqrt(x), so that the
rule asks for x > 14.5 where k = 1, a mere gain for x > 2. The price: a calibrator that would gain
less than some 7 / n nats is often passed over. ``benchmarks/calibration.py`` measures both.
"""

MIN_TOTAL_GAIN = 3.0
"""Nats of all rows together that a gain must exceed: odds of 20 to 1. The standard error alone is
blind where few rows all say the same: three rows without a tie, say, to a smaller bias of ties."""

FOLDS = 10
"""Folds of a file of forecasts."""

SMALLEST = 20
"""Labelled groups of a file below which there is nothing to compare."""


def cross_fitted(method: str, raw: np.ndarray, votes: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Probabilities (n, 3) of each row by ``method`` fitted on the other folds only."""
    probabilities = np.empty(raw.shape)
    for fold in np.unique(folds):
        validation = folds == fold
        training = raw[~validation], votes[~validation], folds[~validation]
        calibrator = CALIBRATORS[method].fit_in_folds(*training)
        probabilities[validation] = calibrator(raw[validation])
    return probabilities


def select_method(
    probabilities: Mapping[str, np.ndarray], votes: np.ndarray, groups: np.ndarray
) -> str:
    """The method to keep, by cross-fitted log loss.

    From the first method on, a later one replaces the best so far only where its gain exceeds
    ``MIN_GAIN``, ``MIN_TOTAL_GAIN`` over all rows, and ``MIN_STANDARD_ERRORS`` of the paired
    difference, groups being the units.
    (The one-standard-error rule of Breiman et al. 1984, section 3.4.3, made stricter.)

    Args:
        probabilities: by method, simplest first: cross-fitted, (n, 3).
        votes: labels (n,) or weighted shares (n, 3), see ``meta.votes``.
        groups: group of each row, (n,).
    """
    losses = {method: row_losses(p, votes) for method, p in probabilities.items()}
    weights = weights_of(votes)
    best, *others = losses
    for method in others:
        gain, error = clustered(losses[best] - losses[method], groups, weights)
        if gain > max(MIN_GAIN, MIN_STANDARD_ERRORS * error, MIN_TOTAL_GAIN / weights.sum()):
            best = method
    return best


def select_calibrator(
    raw: np.ndarray,
    votes: np.ndarray,
    folds: np.ndarray,
    groups: np.ndarray | None = None,
    methods: Sequence[str] = METHODS,
) -> tuple[Calibrator, dict[str, float]]:
    """Choose a calibrator by its cross-fitted log loss (see :func:`select_method`).

    Args:
        raw: out-of-fold raw scores (n, 3).
        votes: labels (n,) or weighted shares (n, 3), see ``meta.votes``.
        folds: int (n,); rows of one group share a fold.
        groups: group of each row, (n,); every row is one of its own by default.
        methods: those to compare, simplest first.

    Returns:
        The chosen calibrator, fitted on all rows, and each method's cross-fitted log loss.
    """
    out_of_fold = {method: cross_fitted(method, raw, votes, folds) for method in methods}
    groups = np.arange(len(votes)) if groups is None else groups
    method = select_method(out_of_fold, votes, groups)
    losses = {name: log_loss(p, votes) for name, p in out_of_fold.items()}
    return CALIBRATORS[method].fit_in_folds(raw, votes, folds), losses


@dataclass(frozen=True)
class CalibrationResult:
    """Forecasts of a file, calibrated, and how each method does on rows that it did not see."""

    probabilities: np.ndarray
    """Of all rows, float64 (n, 3)."""
    calibrator: Calibrator
    """Fitted on all labelled rows."""
    out_of_fold: dict[str, np.ndarray]
    """Of the m labelled rows, by method: float64 (m, 3); ``none``: as they came."""
    labels: np.ndarray
    """int (m,)."""
    groups: np.ndarray
    """Group of each labelled row, (m,)."""

    @property
    def before(self) -> np.ndarray:
        """The labelled rows' forecasts as they came, (m, 3)."""
        return self.out_of_fold["none"]

    @property
    def after(self) -> np.ndarray:
        """The labelled rows' forecasts by the kept method, out of fold, (m, 3)."""
        return self.out_of_fold[self.calibrator.name]

    @property
    def position_bias(self) -> float:
        """Mean P(A) - P(B) minus that of the labels; 0 where it is within 3 standard errors."""
        excess = (self.before - np.eye(3)[self.labels]) @ np.array([1.0, -1.0, 0.0])
        mean = float(excess.mean())
        return mean if abs(mean) > 3 * excess.std() / math.sqrt(len(excess)) else 0.0


def calibrate(forecasts: Forecasts, *, asymmetric: bool = False) -> CalibrationResult:
    """Compare the methods on the labelled rows and calibrate all rows by the one to keep.

    Where no method is worth keeping, the probabilities stay as they came.

    Args:
        forecasts: n rows, some of them labelled.
        asymmetric: compare the methods that treat A and B differently, too.

    Raises:
        UserError: the labelled rows are of fewer than ``SMALLEST`` groups.
    """
    known = forecasts.labels != UNKNOWN
    labels, groups = forecasts.labels[known], forecasts.groups[known]
    count = len(np.unique(groups))
    if count < SMALLEST:
        raise UserError(
            Code.TOO_FEW_BATTLES,
            f"The labelled rows are of {count} groups. "
            f"At least {SMALLEST} are needed to fit and to compare.",
        )
    raw = np.log(np.maximum(forecasts.probabilities, FLOOR))
    folds = fold_of(groups, FOLDS)
    methods = METHODS + ASYMMETRIC if asymmetric else METHODS
    out_of_fold = {m: cross_fitted(m, raw[known], labels, folds) for m in methods}
    out_of_fold["none"] = forecasts.probabilities[known]
    method = select_method(out_of_fold, labels, groups)
    calibrator = CALIBRATORS[method].fit_in_folds(raw[known], labels, folds)
    calibrated = forecasts.probabilities if method == "none" else calibrator(raw)
    return CalibrationResult(calibrated, calibrator, out_of_fold, labels, groups)
