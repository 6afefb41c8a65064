"""A bootstrap over prompt groups: 95% intervals, and whether one forecast beats another.

The draws depend on the groups and the seed alone, so intervals of several forecasts of the same
rows are paired.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from arena.schema import SEED, TIE, A, B
from meta.metrics.scores import decisive_auc, gaps_by_bin, hits, lead, placements, row_losses
from meta.votes import shares_of, winners

DRAWS = 2000
TAILS = (0.025, 0.975)
AT_ONCE = 2_000_000
"""Numbers of one block of draws: some 16 MB."""

Interval = list[float]
"""Low and high."""


def resample(n_groups: int, draws: int = DRAWS) -> Iterator[np.ndarray]:
    """How often each draw holds each group, in blocks of draws; float64 (block, n_groups).

    A draw is of ``n_groups`` groups with replacement.
    """
    rng = np.random.default_rng(SEED)
    block = max(1, AT_ONCE // n_groups)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = rng.integers(0, n_groups, (size, n_groups)) + n_groups * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n_groups)
        yield counts.reshape(size, n_groups).astype(np.float64)


def resampled_means(values: np.ndarray, groups: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    """Means of columns in each draw of whole groups.

    Args:
        values: float64 (n, k).
        groups: prompt group of each row, (n,).
        draws: number of bootstrap draws.

    Returns:
        float64 (draws, k).
    """
    _, index = np.unique(groups, return_inverse=True)
    size = np.bincount(index)
    total = np.zeros((len(size), values.shape[1]))
    np.add.at(total, index, values)
    return np.concatenate(
        [(counts @ total) / (counts @ size)[:, None] for counts in resample(len(size), draws)]
    )


@dataclass(frozen=True)
class Comparison:
    """A paired difference of mean log losses (first minus second), with its 95% interval.

    All but the difference is NaN where there is only one group, which gives no interval.
    """

    difference: float
    low: float
    high: float
    share_better: float
    """Share of bootstrap draws in which the first has the lower loss."""

    @property
    def words(self) -> str:
        """The interval in words."""
        if np.isnan(self.low):
            return "one prompt group: no interval"
        return f"95% interval {self.low:+.4f} to {self.high:+.4f}"


def paired_bootstrap(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> Comparison:
    """Compare two forecasts of the same rows by a bootstrap over prompt groups.

    Args:
        first: per-row losses of the first forecast, (n,).
        second: per-row losses of the second forecast, (n,).
        groups: group of each row, (n,); whole groups are drawn with replacement.
    """
    difference = first - second
    mean = float(difference.mean())
    if len(np.unique(groups)) < 2:
        return Comparison(mean, *[float("nan")] * 3)
    means = resampled_means(difference[:, None], groups)[:, 0]
    low, high = _percentiles(means)
    return Comparison(mean, low, high, float((means < 0).mean()))


def intervals(
    probabilities: np.ndarray, votes: np.ndarray, groups: np.ndarray
) -> dict[str, Interval | None]:
    """Intervals of log loss, Brier score, accuracy, class-wise ECE and AUC of one forecast.

    Args:
        probabilities: float64 (n, 3).
        votes: labels int (n,), or shares float64 (n, 3) that sum to 1.
        groups: prompt group of each row, (n,).

    Returns:
        By figure. None where there is only one group, which gives no interval, and where
        a figure has no value.
    """
    if len(np.unique(groups)) < 2:
        return dict.fromkeys(("log_loss", "brier", "accuracy", "ece", "auc"))
    labels = winners(votes)
    won, place, decided = np.eye(3)[labels], np.zeros((len(labels), 1)), labels != TIE
    place[decided, 0] = placements(lead(probabilities[decided]), labels[decided] == A)
    gaps = gaps_by_bin(probabilities, votes)
    loss, squares, hit, shares, placed, drawn = np.split(
        resampled_means(
            np.column_stack(
                [
                    row_losses(probabilities, votes),
                    ((probabilities - shares_of(votes)) ** 2).sum(axis=1),
                    hits(probabilities, votes),
                    won[:, [A, B]],
                    won[:, [A, B]] * place,
                    gaps,
                ]
            ),
            groups,
        ),
        [1, 2, 3, 5, 7],
        axis=1,
    )
    with np.errstate(invalid="ignore"):
        # To first order the AUC of a draw is the sum of both sides' mean places less the AUC.
        auc = (placed / shares).sum(axis=1) - decisive_auc(probabilities, votes)
    by_figure: dict[str, Interval | None] = {
        "log_loss": _percentiles(loss),
        "brier": _percentiles(squares),
        "accuracy": _percentiles(hit),
        "ece": ece_interval(gaps.mean(axis=0), drawn),
        "auc": None,
    }
    if np.isfinite(auc).any():
        by_figure["auc"] = np.clip(_percentiles(auc[np.isfinite(auc)]), 0.0, 1.0).tolist()
    return by_figure


def _percentiles(drawn: np.ndarray) -> Interval:
    low, high = np.quantile(drawn, TAILS)
    return [float(low), float(high)]


def ece_interval(gaps: np.ndarray, drawn: np.ndarray) -> Interval:
    """Interval of the true class-wise ECE, which the ECE of a sample exceeds by its noise.

    A resample adds that noise once more, so percentiles of resampled ECEs are too high: in
    simulations of 300 to 3,000 rows they covered the true ECE of a calibrated forecast in none of
    200 samples. Here the true gaps are assumed to be t times the observed ones, and the interval is
    of the t for which the observed ECE, with the noise of the resamples, lies between the
    percentiles: it covered the true ECE in 86 to 98% of the samples (docs/LOG.md). It is widened to
    include the figure itself.

    Args:
        gaps: mean gaps of the bins of all classes, (3 * bins,).
        drawn: the same of each resample, (draws, 3 * bins).
    """
    observed = float(np.abs(gaps).sum() / 3)
    noise = drawn - gaps
    if observed == 0.0:
        return [0.0, 0.0]
    largest = 1.0 + float(np.quantile(np.abs(noise).sum(axis=1) / 3, TAILS[1])) / observed
    compatible = []
    for t in np.linspace(0.0, largest, 41):
        low, high = np.quantile(np.abs(t * gaps + noise).sum(axis=1) / 3, TAILS)
        if low <= observed <= high:
            compatible.append(t * observed)
    return [float(min([*compatible, observed])), float(max([*compatible, observed]))]
