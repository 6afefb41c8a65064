import numpy as np
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss

from meta.scores import (
    accuracy,
    brier,
    classwise_ece,
    log_loss,
    paired_bootstrap,
    row_losses,
    swap_gap,
)

P = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
Y = np.array([0, 2])


def test_figures_by_hand():
    assert log_loss(P, Y) == pytest.approx((np.log(2) + np.log(10)) / 2)
    assert brier(P, Y) == pytest.approx((0.25 + 2 * 0.0625 + 0.01 + 0.64 + 0.81) / 2)
    assert accuracy(P, Y) == 0.5


def test_log_loss_is_scikit_learns():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet([1, 1, 1], 50), rng.integers(0, 3, 50)
    assert log_loss(p, y) == pytest.approx(sklearn_log_loss(y, p, labels=[0, 1, 2]))


def test_ece_is_zero_for_the_shares_and_large_for_certain_mistakes():
    y = np.array([0, 0, 1, 2] * 25)
    assert classwise_ece(np.tile([0.5, 0.25, 0.25], (100, 1)), y, bins=1) == pytest.approx(0.0)
    wrong = np.eye(3)[(y + 1) % 3]
    assert classwise_ece(wrong, y) > 0.5


def test_swap_gap_sees_the_one_row_that_differs():
    swapped = P[:, [1, 0, 2]].copy()
    assert swap_gap(P, swapped) == 0.0
    swapped[1] = [0.7, 0.2, 0.1]
    assert swap_gap(P, swapped) == pytest.approx(0.1)


def test_bootstrap_draws_groups_whole():
    first, second = np.array([0.0, 0.0, 3.0]), np.array([1.0, 1.0, 1.0])
    found = paired_bootstrap(first, second, np.array(["g", "g", "h"]))
    assert found.difference == pytest.approx(0.0)
    assert found.low == pytest.approx(-1.0)  # the draw that holds the group g alone
    assert found.high == pytest.approx(2.0)  # the draw that holds the group h alone
    assert row_losses(P, Y).shape == (2,)
