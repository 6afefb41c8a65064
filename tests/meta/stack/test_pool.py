"""The pool gives each part what it is worth."""

import numpy as np
import pytest

from arena.swap import SWAP
from meta.metrics.scores import log_loss
from meta.stack.pool import Pool


def drawn(n=4000, seed=0):
    """Log-probabilities of the truth, and labels drawn from it."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 3))
    truth = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    labels = (truth.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return np.log(truth), labels, rng


def probabilities(scores):
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def test_a_part_that_knows_nothing_gets_nothing():
    truth, labels, rng = drawn()
    noise = np.log(probabilities(rng.normal(size=truth.shape)))
    pool = Pool.fit(truth, noise, labels)
    assert pool.boosters == pytest.approx(1.0, abs=0.1)
    assert pool.share < 0.05
    assert Pool.fit(noise, truth, labels).share > 0.95


def test_parts_that_know_halves_are_added_up():
    """Each knows the truth but for noise of its own; both together know it better."""
    truth, labels, rng = drawn()
    first, second = (np.log(probabilities(truth + rng.normal(size=truth.shape))) for _ in range(2))
    pool = Pool.fit(first, second, labels)
    assert 0.4 < pool.share < 0.6
    both = log_loss(probabilities(pool(first, second)), labels)
    assert both < min(log_loss(np.exp(first), labels), log_loss(np.exp(second), labels)) - 0.05


def test_few_rows_hardly_move_the_shares():
    truth, labels, rng = drawn(30)
    noise = np.log(probabilities(rng.normal(size=truth.shape)))
    assert Pool.fit(truth, noise, labels).share > 0.15
    assert Pool().share == 0.5


def test_the_rate_of_ties_is_set_right():
    truth, labels, _ = drawn()
    less = truth - [0.0, 0.0, 1.0]
    pool = Pool.fit(less, less, labels)
    assert probabilities(pool(less, less))[:, 2].mean() == pytest.approx(
        (labels == 2).mean(), abs=0.01
    )


def test_without_any_signal_the_pool_says_the_rates():
    truth, _, rng = drawn()
    labels = rng.choice(3, len(truth), p=[0.3, 0.3, 0.4])
    found = probabilities(Pool.fit(truth, truth, labels)(truth, truth))
    assert np.abs(found - [0.3, 0.3, 0.4]).max() < 0.06


def test_a_swap_swaps_the_pool_to_the_last_bit():
    truth, _, rng = drawn(200)
    other = rng.normal(size=truth.shape)
    pool = Pool(0.7, 0.4, 0.1)
    assert np.array_equal(pool(truth, other)[:, SWAP], pool(truth[:, SWAP], other[:, SWAP]))


def test_weights_and_shares_of_votes_count():
    truth, labels, rng = drawn()
    noise = np.log(probabilities(rng.normal(size=truth.shape)))
    # Half of the rows vote as the truth, and weigh nothing; the others as the noise.
    votes = np.eye(3)[np.where(np.arange(len(labels)) % 2, labels, noise.argmax(axis=1))]
    votes *= np.where(np.arange(len(labels)) % 2, 1e-3, 2.0)[:, None]
    assert Pool.fit(truth, noise, votes).share > 0.9
