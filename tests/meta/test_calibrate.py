import numpy as np
import pytest
from scipy.special import softmax

from meta.calibrate import Calibrator, choose
from meta.scores import log_loss


def drawn(n=6000, seed=0):
    """True log-probabilities and labels drawn from them."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 3))
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1), rng.integers(0, 4, n)


def test_recovers_a_temperature():
    z, y, folds = drawn()
    chosen, _ = choose(z * 3, y, folds)
    assert chosen.method != "none"
    assert log_loss(chosen(z * 3), y) - log_loss(softmax(z, axis=1), y) < 0.002


def test_recovers_a_tie_rate_which_a_temperature_cannot():
    z, y, folds = drawn()
    wrong = z + np.array([0, 0, 1.5])
    chosen, losses = choose(wrong, y, folds)
    assert chosen.method == "vector"
    assert losses["temperature"] - losses["vector"] > 0.02
    assert log_loss(chosen(wrong), y) - log_loss(softmax(z, axis=1), y) < 0.002


def test_leaves_good_scores_alone():
    z, y, folds = drawn()
    chosen, _ = choose(z, y, folds)
    assert abs(log_loss(chosen(z), y) - log_loss(softmax(z, axis=1), y)) < 1e-3


@pytest.mark.parametrize("method", ["none", "temperature", "vector"])
def test_keeps_the_swap_symmetry(method):
    z, y, _ = drawn(300)
    calibrator = Calibrator.fit(method, z, y)
    swapped = calibrator(z[:, [1, 0, 2]])
    assert np.abs(calibrator(z)[:, [1, 0, 2]] - swapped).max() < 1e-12
