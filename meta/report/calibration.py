"""What a calibration gains, as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from arena.schema import CLASSES
from meta.calibration import MIN_GAIN, MIN_STANDARD_ERRORS, MIN_TOTAL_GAIN, CalibrationResult
from meta.calibrators import CALIBRATORS
from meta.metrics.bootstrap import paired_bootstrap
from meta.metrics.scores import classwise_ece, row_losses
from meta.report.figures import fixed


def summary(result: CalibrationResult) -> str:
    """Out-of-fold figures of each method, shares of each class, and the method that is kept."""
    rows, groups = len(result.probabilities), len(np.unique(result.groups))
    return "\n".join(
        [
            f"{rows:,} rows, {len(result.labels):,} with a label, in {groups:,} groups",
            *_methods(result),
            *_shares(result),
            *_position_bias(result),
            *_kept(result),
        ]
    )


def _methods(result: CalibrationResult) -> Iterator[str]:
    before = row_losses(result.before, result.labels)
    yield f"{'out of fold':<14}{'log loss':>9}{'ECE':>8}   lower than none by, 95% interval"
    for method, p in result.out_of_fold.items():
        losses = row_losses(p, result.labels)
        line = f"{method:<14}{losses.mean():>9.4f}{classwise_ece(p, result.labels):>8.4f}"
        if method != "none":
            c = paired_bootstrap(before, losses, result.groups)
            line += f"   {fixed(c.difference):>7}  [{fixed(c.low)}, {fixed(c.high)}]"
        yield line


def _shares(result: CalibrationResult) -> Iterator[str]:
    yield f"{'share':<14}{'labels':>9}{'before':>9}{'after':>9}"
    for c, name in enumerate(CLASSES):
        share = (result.labels == c).mean()
        forecasts = (result.before[:, c].mean(), result.after[:, c].mean())
        yield f"{name:<14}" + "".join(f"{value:>9.4f}" for value in (share, *forecasts))


def _position_bias(result: CalibrationResult) -> Iterator[str]:
    bias = result.position_bias
    if bias and all(CALIBRATORS[method].symmetric for method in result.out_of_fold):
        favoured, other = "AB" if bias > 0 else "BA"
        yield (
            f"the forecasts favour {favoured} over {other} by {abs(bias):.3f} more than the labels"
            ": --asymmetric"
        )


def _kept(result: CalibrationResult) -> Iterator[str]:
    method = result.calibrator.name
    before, after = (row_losses(p, result.labels).mean() for p in (result.before, result.after))
    yield f"kept: {method}, log loss {before:.4f} before, {after:.4f} after"
    if method == "none":
        yield (
            f"no method gains more than {MIN_GAIN}, {MIN_STANDARD_ERRORS} standard errors and "
            f"{MIN_TOTAL_GAIN:g} nats over all rows"
        )
    else:
        yield "  ".join(f"{k} {v:.6g}" for k, v in result.calibrator.coefficients().items())
