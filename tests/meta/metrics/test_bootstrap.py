"""Intervals of every figure: of hand-made cases, of calibrated forecasts, of repeated rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from arena.schema import SEED
from meta.metrics.bootstrap import (
    TAILS,
    ece_interval,
    intervals,
    paired_bootstrap,
    resample,
    resampled_means,
)
from meta.metrics.scores import gaps_by_bin, row_losses
from meta.report.figures import SCORES


def calibrated(n, seed):
    """Forecasts and votes drawn from them."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([3, 3, 2], n)
    return p, (np.log(p) + rng.gumbel(size=p.shape)).argmax(axis=1)


def test_every_draw_has_as_many_groups_as_there_are():
    drawn = np.concatenate(list(resample(5, draws=300)))
    assert drawn.shape == (300, 5)
    assert (drawn.sum(axis=1) == 5).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(5), abs=0.2)


def test_means_of_two_groups_are_of_one_or_of_both():
    values = np.array([[0.0], [0.0], [3.0]])
    means = resampled_means(values, np.array(["g", "g", "h"]))[:, 0]
    assert sorted(set(means)) == [0.0, 1.0, 3.0]
    assert (means == 1.0).mean() == pytest.approx(0.5, abs=0.05)


def test_bootstrap_draws_groups_whole():
    first, second = np.array([0.0, 0.0, 3.0]), np.array([1.0, 1.0, 1.0])
    comparison = paired_bootstrap(first, second, np.array(["g", "g", "h"]))
    assert comparison.difference == pytest.approx(0.0)
    assert comparison.low == pytest.approx(-1.0)  # the draw that holds the group g alone
    assert comparison.high == pytest.approx(2.0)  # the draw that holds the group h alone
    alone = paired_bootstrap(first, second, np.array(["g", "g", "g"]))
    assert alone.difference == pytest.approx(0.0)
    assert np.isnan([alone.low, alone.high, alone.share_better]).all()


def test_draws_are_those_of_drawing_group_by_group():
    p, y = calibrated(200, 0)
    losses, groups = row_losses(p, y), np.arange(200) // 3
    rng, means = np.random.default_rng(SEED), []
    for _ in range(2000):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(0, 67, 67)])
        means.append(losses[rows].mean())
    expected = pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-12)
    assert intervals(p, y, groups)["log_loss"] == expected
    comparison = paired_bootstrap(losses, np.zeros(200), groups)
    assert [comparison.low, comparison.high] == expected


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(8, 60), st.sampled_from([0.3, 1.0, 3.0]))
def test_intervals_hold_their_figures(seed, n, sharpness):
    p, y = calibrated(n, seed)
    p = p**sharpness / (p**sharpness).sum(axis=1, keepdims=True)
    by_figure = intervals(p, y, np.arange(n) // 2)
    for name, of in SCORES.items():
        if by_figure[name] is not None:
            low, high = by_figure[name]
            assert low - 1e-9 <= of(p, y) <= high + 1e-9


def test_repeating_every_row_in_its_group_tells_nothing_new():
    p, y = calibrated(100, 1)
    groups = np.arange(100)
    once = intervals(p, y, groups)
    thrice = intervals(np.repeat(p, 3, axis=0), np.repeat(y, 3), np.repeat(groups, 3))
    for name in ("log_loss", "brier", "accuracy", "auc"):
        assert thrice[name] == pytest.approx(once[name])
    apart = intervals(np.repeat(p, 3, axis=0), np.repeat(y, 3), np.arange(300))
    assert np.ptp(apart["log_loss"]) < 0.7 * np.ptp(once["log_loss"])


def test_the_interval_of_the_auc_is_that_of_drawing_it_anew():
    p, y = calibrated(400, 2)
    share, rng, drawn = p[:, 0] / (p[:, 0] + p[:, 1]), np.random.default_rng(0), []
    for _ in range(300):
        rows = rng.integers(0, 400, 400)
        rows = rows[y[rows] != 2]
        drawn.append(roc_auc_score(y[rows] == 0, share[rows]))
    interval = intervals(p, y, np.arange(400))["auc"]
    assert interval == pytest.approx(np.quantile(drawn, TAILS), abs=0.015)


def test_the_ece_interval_of_a_calibrated_forecast_goes_down_to_nothing():
    covered = 0
    for seed in range(40):
        p, y = calibrated(300, seed)
        gaps = gaps_by_bin(p, y)
        drawn = resampled_means(gaps, np.arange(300), draws=300)
        low, high = ece_interval(gaps.mean(axis=0), drawn)
        assert high > 0.02
        covered += low == 0.0
        # What percentiles would have said.
        assert np.quantile(np.abs(drawn).sum(axis=1) / 3, TAILS[0]) > 0.02
    assert covered >= 34


def test_the_ece_interval_of_a_forecast_that_is_far_off_excludes_calibration():
    p, y = calibrated(600, 3)
    off = p[:, [1, 2, 0]]
    low, high = intervals(off, y, np.arange(600))["ece"]
    assert 0.1 < low < high
    assert ece_interval(np.zeros(30), np.zeros((5, 30))) == [0.0, 0.0]


def test_one_group_or_no_decision_has_no_interval():
    p, y = calibrated(30, 4)
    assert set(intervals(p, y, np.zeros(30)).values()) == {None}
    ties = intervals(p, np.full(30, 2), np.arange(30))
    assert ties["auc"] is None
    assert ties["log_loss"] is not None
