import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from meta.base_models.symmetric_logistic import SymmetricLogistic, alternate_sides


def test_swap_trades_a_and_b_exactly():
    rng = np.random.default_rng(0)
    anti, sym, y = rng.normal(size=(80, 3)), rng.normal(size=(80, 2)), rng.integers(0, 3, 80)
    model = SymmetricLogistic.fit(anti, sym, y)
    p, swapped = model.predict(anti, sym), model.predict(-anti, sym)
    assert np.array_equal(p[:, [1, 0, 2]], swapped)
    assert p.sum(axis=1) == pytest.approx(1.0)


def test_finds_the_side_and_the_tie():
    rng = np.random.default_rng(1)
    anti, sym = rng.normal(size=(2000, 1)), rng.normal(size=(2000, 1))
    tie = rng.random(2000) < 1 / (1 + np.exp(-(sym[:, 0] - 1)))
    side = rng.random(2000) < 1 / (1 + np.exp(-2 * anti[:, 0]))
    model = SymmetricLogistic.fit(anti, sym, np.where(tie, 2, np.where(side, 0, 1)))
    assert model.side[0] == pytest.approx(2.0, abs=0.25)
    assert model.tie[0] == pytest.approx(1.0, abs=0.2)
    assert model.tie_bias == pytest.approx(-1.0, abs=0.2)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_one_class_only_still_gives_probabilities(label):
    anti, sym = np.ones((4, 1)), np.zeros((4, 1))
    p = SymmetricLogistic.fit(anti, sym, np.full(4, label)).predict(anti, sym)
    assert np.isfinite(p).all()
    assert (p.argmax(axis=1) == label).all()


@pytest.mark.parametrize("winners", ["by turns", "at random", "always A"])
def test_a_battle_weighs_as_much_as_its_mirror_image(winners):
    rng = np.random.default_rng(2)
    n = 400
    won = {
        "by turns": np.arange(n) % 2 == 0,
        "at random": rng.random(n) < 0.5,
        "always A": np.ones(n, dtype=bool),
    }[winners]
    x = rng.normal(size=(n, 3)) + np.where(won, 1, -1)[:, None] * [0.5, 0.2, 0.0]
    fitted = SymmetricLogistic.fit(x, np.zeros((n, 1)), np.where(won, 0, 1), 0.5)
    both = LogisticRegression(C=0.25, fit_intercept=False, tol=1e-8)
    scale = np.sqrt((x**2).mean(axis=0))
    both.fit(np.concatenate([x, -x]) / scale, np.concatenate([won, ~won]))
    np.testing.assert_allclose(fitted.side, both.coef_[0] / scale, atol=2e-3)
    first, signs = alternate_sides(won)
    assert first.tolist() == [True, False] * (n // 2)
    np.testing.assert_array_equal(signs > 0, won == first)
