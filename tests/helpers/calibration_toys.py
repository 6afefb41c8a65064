"""Scores with labels drawn from them, and what a calibrator costs."""

import numpy as np
from scipy.special import log_softmax


def drawn(n=4000, seed=0):
    """True log-probabilities and labels drawn from them."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 3))
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1), rng.integers(0, 5, n)


FRESH = log_softmax(np.random.default_rng(99).normal(size=(20_000, 3)), axis=1)


def excess(calibrator, distort=lambda z: z):
    """Expected log loss on fresh rows above that of their true probabilities; no vote is drawn."""
    return float((np.exp(FRESH) * (FRESH - np.log(calibrator(distort(FRESH))))).sum(1).mean())
