import numpy as np
import pytest

from meta.logistic import SymmetricLogistic


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
