import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss

from meta.metrics.scores import (
    accuracy,
    bins_of,
    brier,
    classwise_ece,
    decisive_auc,
    ece_by_chance,
    gaps_by_bin,
    guesses,
    hits,
    lead,
    log_loss,
    placements,
    swap_gap,
)

P = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
Y = np.array([0, 2])


def test_figures_by_hand():
    assert log_loss(P, Y) == pytest.approx((np.log(2) + np.log(10)) / 2)
    assert brier(P, Y) == pytest.approx((0.25 + 2 * 0.0625 + 0.01 + 0.64 + 0.81) / 2)
    assert accuracy(P, Y) == 0.5


def test_equally_probable_classes_share_a_hit():
    p = np.array([[0.4, 0.4, 0.2], [0.4, 0.4, 0.2], [1 / 3] * 3, [0.2, 0.3, 0.5]])
    assert hits(p, np.array([0, 2, 1, 2])).tolist() == [0.5, 0, 1 / 3, 1]
    assert guesses(p).sum(axis=1) == pytest.approx(np.ones(4))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_accuracy_does_not_prefer_a_side(seed, digits):
    rng = np.random.default_rng(seed)
    p, y = rng.dirichlet([2, 2, 1], 40).round(digits), rng.integers(0, 3, 40)
    swapped = accuracy(p[:, [1, 0, 2]], np.array([1, 0, 2])[y])
    assert swapped == pytest.approx(accuracy(p, y), abs=1e-12)
    assert accuracy(np.full((40, 3), 1 / 3), y) == pytest.approx(1 / 3)


def test_log_loss_is_scikit_learns():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet([1, 1, 1], 50), rng.integers(0, 3, 50)
    assert log_loss(p, y) == pytest.approx(sklearn_log_loss(y, p, labels=[0, 1, 2]))


def test_ece_is_zero_for_the_shares_and_large_for_certain_mistakes():
    y = np.array([0, 0, 1, 2] * 25)
    assert classwise_ece(np.tile([0.5, 0.25, 0.25], (100, 1)), y, bins=1) == pytest.approx(0.0)
    wrong = np.eye(3)[(y + 1) % 3]
    assert classwise_ece(wrong, y) > 0.5


def test_auc_by_hand():
    # Won by A with .8 and .5 of either, by B with .5 and .2; one tie, which does not count.
    p = np.array([[0.8, 0.2, 0], [0.25, 0.25, 0.5], [0.3, 0.3, 0.4], [0.1, 0.4, 0.5], [0, 0, 1.0]])
    y = np.array([0, 0, 1, 1, 2])
    assert decisive_auc(p, y) == 3.5 / 4
    assert np.isnan(decisive_auc(p[:2], y[:2]))
    assert np.isnan(decisive_auc(p[2:], y[2:]))


def test_placements_by_hand():
    scores, positive = np.array([3.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False])
    assert placements(scores, positive).tolist() == [1.0, 0.75, 0.75, 1.0]
    assert np.isnan(placements(scores, np.ones(4, dtype=bool))).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_a_swap_changes_no_auc(seed, digits):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([2, 2, 1], 60).round(digits)
    y = np.concatenate([[0, 1], rng.integers(0, 3, 58)])
    swapped = decisive_auc(p[:, [1, 0, 2]], np.array([1, 0, 2])[y])
    assert swapped == pytest.approx(decisive_auc(p, y), abs=1e-12)
    won = placements(lead(p[y != 2]), y[y != 2] == 0)[y[y != 2] == 0]
    assert decisive_auc(p, y) == pytest.approx(won.mean())


def test_bins_hold_equally_many_rows_in_order():
    p = np.array([[0.4], [0.1], [0.3], [0.2]]).repeat(3, axis=1)
    assert bins_of(p, 2)[:, 0].tolist() == [1, 0, 1, 0]
    y = np.array([0, 1, 2, 2])
    assert gaps_by_bin(p, y, 2)[:, :2].tolist() == [[0, -0.6], [0.1, 0], [0, 0.3], [0.2, 0]]
    assert classwise_ece(p, y, 2) == np.abs(gaps_by_bin(p, y, 2).mean(axis=0)).sum() / 3


@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(0, 3))
def test_the_order_of_rows_changes_no_calibration_error(seed, n, digits):
    rng = np.random.default_rng(seed)
    p, y, groups = rng.dirichlet([2, 2, 1], n).round(digits), rng.integers(0, 3, n), np.arange(n)
    other = rng.permutation(n)
    assert (bins_of(p[other]) == bins_of(p)[other]).all()
    assert classwise_ece(p[other], y[other]) == pytest.approx(classwise_ece(p, y), abs=1e-12)
    by_chance = ece_by_chance(p[other], y[other], groups[other])
    assert by_chance == pytest.approx(ece_by_chance(p, y, groups), abs=1e-12)


def test_equal_forecasts_share_a_bin_and_others_do_not_move():
    p = np.array([0.1, 0.2, 0.2, 0.2, 0.3, 0.3, 0.4, 0.5])[:, None].repeat(3, axis=1)
    # Pairs of rows would be 0 0 1 1 2 2 3 3: the third and fourth go to the first of their kind.
    assert bins_of(p, 4)[:, 0].tolist() == [0, 0, 0, 0, 2, 2, 3, 3]


def test_the_shares_of_the_classes_are_calibrated_in_any_order():
    y = np.repeat([0, 1, 2], [50, 30, 20])  # blocks of a class, as a sorted file has them
    p = np.tile([0.5, 0.3, 0.2], (100, 1))
    assert classwise_ece(p, y) == pytest.approx(0.0, abs=1e-12)
    assert ece_by_chance(p, y, np.arange(100))[0] == pytest.approx(
        np.sqrt(2 * p[0] * (1 - p[0]) / np.pi / 100).mean(), rel=0.01
    )


def test_swap_gap_sees_the_one_row_that_differs():
    swapped = P[:, [1, 0, 2]].copy()
    assert swap_gap(P, swapped) == 0.0
    swapped[1] = [0.7, 0.2, 0.1]
    assert swap_gap(P, swapped) == pytest.approx(0.1)
