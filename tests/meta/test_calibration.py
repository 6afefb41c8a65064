import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from arena.swap import SWAP
from meta.calibration import (
    METHODS,
    ODIR,
    OWN_OPINION,
    Calibrator,
    choose,
    cross_fitted,
    worth_keeping,
)
from meta.metrics.scores import log_loss

EVERY = (*METHODS, "lean")


def drawn(n=4000, seed=0):
    """True log-probabilities and labels drawn from them."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 3))
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1), rng.integers(0, 5, n)


FRESH = log_softmax(np.random.default_rng(99).normal(size=(20_000, 3)), axis=1)


def excess(calibrator, distort=lambda z: z):
    """Expected log loss on fresh rows above that of their true probabilities; no vote is drawn."""
    return float((np.exp(FRESH) * (FRESH - np.log(calibrator(distort(FRESH))))).sum(1).mean())


@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_recovers_a_temperature(temperature):
    z, y, folds = drawn()
    chosen, _ = choose(z * temperature, y, folds)
    assert chosen.side * temperature == pytest.approx(1, abs=0.06)
    assert excess(Calibrator(), lambda z: z * temperature) > 0.02
    assert excess(chosen, lambda z: z * temperature) < 0.002


@pytest.mark.parametrize("shift", [-1.0, 1.5])
def test_recovers_a_tie_rate_which_a_temperature_cannot(shift):
    z, y, folds = drawn()
    wrong = np.array([0, 0, shift])
    chosen, losses = choose(z + wrong, y, folds)
    assert chosen.method == "bias"
    assert losses["temperature"] - losses["bias"] > 0.02
    assert (chosen.side, chosen.tie, chosen.both) == (1, 1, 1)
    assert chosen.bias == pytest.approx(-shift, abs=0.15)
    assert excess(chosen, lambda z: z + wrong) < 0.002


def test_recovers_a_temperature_and_a_tie_rate_by_two_numbers():
    z, y, folds = drawn()

    def distort(z):
        return (z + np.array([0, 0, -0.7])) * 1.6

    chosen, _ = choose(distort(z), y, folds)
    assert chosen.method == "bcts"
    assert chosen.side == chosen.tie == chosen.both == pytest.approx(1 / 1.6, abs=0.05)
    assert chosen.bias == pytest.approx(0.7, abs=0.1)
    assert excess(chosen, distort) < 0.001


def test_recovers_ties_that_follow_closeness_too_much_which_a_vector_cannot():
    truth = Calibrator("dirichlet", side=1.0, tie=0.5, both=3.0, bias=-1.0)
    raw, _, folds = drawn(4000)
    p = truth(raw)
    y = (np.log(p) + np.random.default_rng(5).gumbel(size=p.shape)).argmax(axis=1)
    chosen, losses = choose(raw, y, folds)
    assert chosen.method == "dirichlet"
    assert losses["vector"] - losses["dirichlet"] > 0.01
    assert (p * (np.log(p) - np.log(chosen(raw)))).sum(1).mean() < 0.002


@pytest.mark.parametrize(("n", "seeds"), [(200, 5), (2000, 5), (20_000, 1)])
def test_never_spoils_good_scores(n, seeds):
    for seed in range(seeds):
        z, y, folds = drawn(n, 100 + seed)
        chosen, _ = choose(z, y, folds)
        assert excess(chosen) < 1e-4


ROWS = 50_000


def forecasts(*gains):
    """Methods in order, each lower than the first by its gains on every row."""
    base = np.full(ROWS, 0.4)
    found = {}
    names = ("none", "temperature", "vector", "dirichlet")
    for method, gain in zip(names, (0.0, *gains), strict=False):
        p = base * np.exp(gain)
        found[method] = np.stack([p, (1 - p) / 2, (1 - p) / 2], axis=1)
    return found, np.zeros(ROWS, dtype=int), np.arange(ROWS)


@pytest.mark.parametrize(
    ("gains", "kept"),
    [
        ((0.9e-4,), "none"),
        ((1.1e-4,), "temperature"),
        ((1e-3, 1.09e-3), "temperature"),
        ((1e-3, 1.2e-3), "vector"),
        ((0.0, 2e-4), "vector"),
        ((0.0, 2e-4, 2.5e-4), "vector"),
    ],
)
def test_keeps_the_simplest_that_is_worth_it(gains, kept):
    assert worth_keeping(*forecasts(*gains)) == kept


def test_keeps_nothing_for_a_gain_that_may_be_chance():
    noise = np.random.default_rng(0).normal(size=ROWS)
    noise -= noise.mean()
    error = noise.std() / np.sqrt(ROWS)
    for standard_errors, kept in ((1.5, "none"), (1.8, "temperature")):
        sure = 0.1 * (noise + standard_errors * error)
        assert worth_keeping(*forecasts(sure)) == kept


def test_a_few_rows_that_agree_are_not_enough():
    found, labels, rows = forecasts(0.01)
    for n, kept in ((290, "none"), (310, "temperature")):
        few = {name: p[:n] for name, p in found.items()}
        assert worth_keeping(few, labels[:n], rows[:n]) == kept


def test_rows_of_one_group_count_as_one():
    found, labels, rows = forecasts(np.where(np.arange(ROWS) < 0.6 * ROWS, 0.01, -0.01))
    assert worth_keeping(found, labels, rows) == "temperature"
    assert worth_keeping(found, labels, rows // (ROWS // 10)) == "none"


def test_a_row_is_calibrated_without_its_own_label():
    z, y, folds = drawn(300)
    other = np.where(folds == 2, (y + 1) % 3, y)
    for method in METHODS[1:]:
        before, after = (cross_fitted(method, z, labels, folds) for labels in (y, other))
        assert (before[folds == 2] == after[folds == 2]).all()
        assert (before[folds != 2] != after[folds != 2]).any()


@pytest.mark.parametrize("method", METHODS)
def test_a_swap_swaps_to_the_last_bit(method):
    z, y, _ = drawn(500)
    z[:50] *= 1000
    calibrator = Calibrator.fit(method, z + np.array([0.3, 0, 1]), y)
    assert (calibrator(z)[:, SWAP] == calibrator(z[:, SWAP])).all()
    tied = calibrator(np.array([[0.7, 0.7, -1.0]]))
    assert tied[0, 0] == tied[0, 1]


def test_lean_mends_what_the_symmetric_methods_must_not():
    z, y, folds = drawn()
    wrong = np.array([0.8, 0, 0])
    chosen, losses = choose(z + wrong, y, folds, methods=EVERY)
    assert chosen.method == "lean"
    assert chosen.lean == pytest.approx(-0.8, abs=0.1)
    assert losses["dirichlet"] - losses["lean"] > 0.02
    assert excess(chosen, lambda z: z + wrong) < 0.002


@pytest.mark.parametrize("method", EVERY)
def test_is_one_linear_map_of_the_log_probabilities(method):
    z, y, _ = drawn(400)
    calibrator = Calibrator.fit(method, z * 2 + [0.5, 0, 1], y)
    W, b = calibrator.weights
    assert (W[SWAP][:, SWAP] == W).all()
    assert (b[0] == b[1]) == (method != "lean")
    assert softmax(log_softmax(z, axis=1) @ W.T + b, axis=1) == pytest.approx(calibrator(z))


def test_dirichlet_is_the_optimum_over_all_tied_weights():
    """Four numbers are fitted; here all seven, with the penalty as it is written in the paper."""
    z, y, _ = drawn(60)
    z = z * 2 + [0, 0, 1]
    log_p = log_softmax(z, axis=1)
    target = (np.eye(3)[y] * 60 + np.exp(log_p) * OWN_OPINION) / (60 + OWN_OPINION)

    def unpack(x):
        same, other, from_tie, to_tie, tie, bias, tie_bias = x
        W = np.array([[same, other, from_tie], [other, same, from_tie], [to_tie, to_tie, tie]])
        return W, np.array([bias, bias, tie_bias])

    def loss(x):
        W, b = unpack(x)
        off = (W[~np.eye(3, dtype=bool)] ** 2).sum() + (b**2).sum()
        fit = log_softmax(log_p @ W.T + b, axis=1)
        return -(target * fit).sum(axis=1).mean() + ODIR / 60 * off

    W, b = unpack(minimize(loss, [1, 0, 0, 0, 1, 0, 0], tol=1e-9).x)
    calibrator = Calibrator.fit("dirichlet", z, y)
    assert calibrator.weights[0] == pytest.approx(W, abs=1e-3)
    assert calibrator.weights[1] == pytest.approx(b, abs=1e-3)


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("labels", [[], [0], [2], [0, 0, 1], [1, 1, 2], [0, 1, 2]])
def test_a_few_rows_give_a_finite_map(method, labels):
    z, _, _ = drawn(3)
    calibrator = Calibrator.fit(method, z[: len(labels)], np.array(labels, dtype=int))
    p = calibrator(FRESH)
    assert calibrator.method == method
    assert np.isfinite(list(asdict(calibrator).values())[1:]).all()
    assert p.min() > 0
    assert p.sum(axis=1) == pytest.approx(1)


def test_a_class_that_never_occurs_keeps_the_share_of_one_row_in_n():
    z, y, _ = drawn(200)
    z, y = z[y != 2][:99], y[y != 2][:99]
    p = Calibrator.fit("vector", z, y)(z)
    assert p[:, 2].mean() == pytest.approx(softmax(z, axis=1)[:, 2].mean() / 100, rel=1e-3)


@pytest.mark.parametrize("folds", [[0, 1, 2], [0, 0, 0]])
def test_three_rows_are_no_reason_to_change_anything(folds):
    z, _, _ = drawn(3)
    chosen, losses = choose(z, np.array([0, 0, 1]), np.array(folds))
    assert chosen == Calibrator()
    assert np.isfinite(list(losses.values())).all()


@pytest.mark.parametrize("method", EVERY)
def test_identical_rows_get_their_rate(method):
    raw = np.tile(np.log([0.3, 0.3, 0.4]), (1000, 1))
    y = np.repeat([0, 1, 2], [100, 100, 800])
    p = Calibrator.fit(method, raw, y)(raw[:1])[0]
    assert p == pytest.approx([0.3, 0.3, 0.4] if method == "none" else [0.1, 0.1, 0.8], abs=0.01)


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("worst", [-np.inf, -1e300, -1e4])
def test_certainty_that_is_wrong_is_tamed(method, worst):
    """Forecasts of exactly 0 and 1, right four times in five."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 1000)
    said = np.where(rng.random(1000) < 0.8, y, (y + rng.integers(1, 3, 1000)) % 3)
    raw = np.where(np.eye(3)[said] == 1, 0.0, worst)
    calibrator = Calibrator.fit(method, raw, y)
    p = calibrator(raw)
    assert p.sum(axis=1) == pytest.approx(1)
    assert (calibrator(raw[:, SWAP]) == p[:, SWAP]).all() or method == "lean"
    if method == "none":
        assert log_loss(p, y) > 6
    # A bias alone moves no certainty of one side against the other.
    elif method != "bias":
        assert p.max(axis=1).mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("method", EVERY)
def test_does_not_depend_on_a_constant_of_each_row(method):
    z, y, _ = drawn(300)
    shift = np.random.default_rng(1).normal(scale=20, size=(300, 1))
    assert Calibrator.fit(method, z + shift, y)(z) == pytest.approx(Calibrator.fit(method, z, y)(z))


@pytest.mark.parametrize("method", METHODS)
def test_never_turns_a_preference_around(method):
    z, y, _ = drawn(1000)
    p = Calibrator.fit(method, -z, y)(FRESH)
    assert ((p[:, 0] - p[:, 1]) * (FRESH[:, 0] - FRESH[:, 1]) >= 0).all()


@pytest.mark.parametrize("method", EVERY)
def test_survives_json_to_the_last_bit(method):
    z, y, _ = drawn(300)
    calibrator = Calibrator.fit(method, z * 3, y)
    again = Calibrator(**json.loads(json.dumps(asdict(calibrator))))
    assert again == calibrator
    assert (again(z) == calibrator(z)).all()
