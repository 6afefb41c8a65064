"""Ridge regression from sums, against what a textbook solve of the same rows gives."""

import numpy as np
import pytest

from meta.base_models.ridge import RidgeSums


def sums_of(x, y, weights=None):
    weights = np.ones(len(x)) if weights is None else weights
    sums = RidgeSums.zeros(x.shape[1])
    sums.add(x.astype(np.float32), y * weights, weights)
    return sums


def textbook(x, y, weights, penalty, intercept):
    """Weights and intercept of columns scaled to unit size, in float64."""
    mean = weights @ x / weights.sum() if intercept else np.zeros(x.shape[1])
    target = weights @ y / weights.sum() if intercept else 0.0
    scale = np.sqrt(weights @ (x - mean) ** 2 / weights.sum())
    scale = np.where(scale > 1e-8, scale, 1.0)
    z = (x - mean) / scale
    gram = z.T @ (weights[:, None] * z) + penalty * x.shape[1] * np.eye(x.shape[1])
    found = np.linalg.solve(gram, z.T @ (weights * (y - target))) / scale
    return found, target - mean @ found


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("rows", [200, 12], ids=["more rows", "more columns"])
def test_added_sums_give_what_all_rows_at_once_give(rows, intercept):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(rows, 30)) + rng.normal(size=30)) * np.geomspace(0.01, 100, 30)
    y, weights = rng.normal(size=rows) + x[:, 15], rng.uniform(0.2, 3, rows)
    parts = [sums_of(x[i::3], y[i::3], weights[i::3]) for i in range(3)]
    found, bias = RidgeSums.total(parts).solve(2.0, intercept=intercept)
    wanted, wanted_bias = textbook(x, y, weights, 2.0, intercept)
    scale = x.std(axis=0)
    np.testing.assert_allclose(found * scale, wanted * scale, atol=2e-5)
    assert bias == pytest.approx(wanted_bias, abs=1e-4)
    # The parts are as before: each serves many fits.
    again, _ = RidgeSums.total(parts).solve(2.0, intercept=intercept)
    assert np.array_equal(found, again)


def test_a_row_of_weight_two_counts_as_twice_that_row():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(50, 4)), rng.normal(size=50)
    once, bias = sums_of(x, y, 1.0 + np.arange(50) % 2).solve(1.0, intercept=True)
    rows = np.repeat(np.arange(50), 1 + np.arange(50) % 2)
    twice, other = sums_of(x[rows], y[rows]).solve(1.0, intercept=True)
    np.testing.assert_allclose(once, twice, atol=1e-6)
    assert bias == pytest.approx(other, abs=1e-6)


def test_a_column_that_never_varies_gets_no_weight():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=40) + 5.0
    x[:, 1] = 0.0
    for intercept in (False, True):
        found, bias = sums_of(x, y).solve(1.0, intercept=intercept)
        assert np.isfinite(found).all()
        assert found[1] == 0.0
    assert bias == pytest.approx(5.0, abs=0.3)


def test_no_rows_say_nothing():
    found, bias = RidgeSums.zeros(3).solve(1.0, intercept=True)
    assert found.tolist() == [0, 0, 0]
    assert bias == 0.0
