"""Which calibrator is chosen, and what it costs and gains on rows that are not drawn yet."""

import numpy as np
import pytest

from arena.predictions_file import Forecasts
from meta.calibration import (
    METHODS,
    calibrate,
    cross_fitted,
    select_calibrator,
    select_method,
)
from meta.calibrators import CALIBRATORS, Dirichlet, Identity
from tests.helpers.calibration_toys import drawn, excess


@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_recovers_a_temperature(temperature):
    z, y, folds = drawn()
    chosen, _ = select_calibrator(z * temperature, y, folds)
    assert chosen.side * temperature == pytest.approx(1, abs=0.06)
    assert excess(Identity(), lambda z: z * temperature) > 0.02
    assert excess(chosen, lambda z: z * temperature) < 0.002


@pytest.mark.parametrize("shift", [-1.0, 1.5])
def test_recovers_a_tie_rate_which_a_temperature_cannot(shift):
    z, y, folds = drawn()
    wrong = np.array([0, 0, shift])
    chosen, losses = select_calibrator(z + wrong, y, folds)
    assert chosen.name == "bias"
    assert losses["temperature"] - losses["bias"] > 0.02
    assert (chosen.side, chosen.tie, chosen.both) == (1, 1, 1)
    assert chosen.bias == pytest.approx(-shift, abs=0.15)
    assert excess(chosen, lambda z: z + wrong) < 0.002


def test_recovers_a_temperature_and_a_tie_rate_by_two_numbers():
    z, y, folds = drawn()

    def distort(z):
        return (z + np.array([0, 0, -0.7])) * 1.6

    chosen, _ = select_calibrator(distort(z), y, folds)
    assert chosen.name == "bcts"
    assert chosen.side == chosen.tie == chosen.both == pytest.approx(1 / 1.6, abs=0.05)
    assert chosen.bias == pytest.approx(0.7, abs=0.1)
    assert excess(chosen, distort) < 0.001


def test_recovers_ties_that_follow_closeness_too_much_which_a_vector_cannot():
    truth = Dirichlet(side=1.0, tie=0.5, both=3.0, bias=-1.0)
    raw, _, folds = drawn(4000)
    p = truth(raw)
    y = (np.log(p) + np.random.default_rng(5).gumbel(size=p.shape)).argmax(axis=1)
    chosen, losses = select_calibrator(raw, y, folds)
    assert chosen.name == "dirichlet"
    assert losses["vector"] - losses["dirichlet"] > 0.01
    assert (p * (np.log(p) - np.log(chosen(raw)))).sum(1).mean() < 0.002


@pytest.mark.parametrize(("n", "seeds"), [(200, 5), (2000, 5), (20_000, 1)])
def test_never_spoils_good_scores(n, seeds):
    for seed in range(seeds):
        z, y, folds = drawn(n, 100 + seed)
        chosen, _ = select_calibrator(z, y, folds)
        assert excess(chosen) < 1e-4


ROWS = 50_000


def forecasts(*gains):
    """Methods in order, each lower than the first by its gains on every row."""
    base = np.full(ROWS, 0.4)
    probabilities = {}
    names = ("none", "temperature", "vector", "dirichlet")
    for method, gain in zip(names, (0.0, *gains), strict=False):
        p = base * np.exp(gain)
        probabilities[method] = np.stack([p, (1 - p) / 2, (1 - p) / 2], axis=1)
    return probabilities, np.zeros(ROWS, dtype=int), np.arange(ROWS)


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
    assert select_method(*forecasts(*gains)) == kept


def test_keeps_nothing_for_a_gain_that_may_be_chance():
    noise = np.random.default_rng(0).normal(size=ROWS)
    noise -= noise.mean()
    error = noise.std() / np.sqrt(ROWS)
    for standard_errors, kept in ((1.5, "none"), (1.8, "temperature")):
        sure = 0.1 * (noise + standard_errors * error)
        assert select_method(*forecasts(sure)) == kept


def test_a_few_rows_that_agree_are_not_enough():
    probabilities, labels, rows = forecasts(0.01)
    for n, kept in ((290, "none"), (310, "temperature")):
        few = {name: p[:n] for name, p in probabilities.items()}
        assert select_method(few, labels[:n], rows[:n]) == kept


def test_rows_of_one_group_count_as_one():
    probabilities, labels, rows = forecasts(np.where(np.arange(ROWS) < 0.6 * ROWS, 0.01, -0.01))
    assert select_method(probabilities, labels, rows) == "temperature"
    assert select_method(probabilities, labels, rows // (ROWS // 10)) == "none"


def test_a_row_is_calibrated_without_its_own_label():
    z, y, folds = drawn(300)
    other = np.where(folds == 2, (y + 1) % 3, y)
    for method in METHODS[1:]:
        before, after = (cross_fitted(method, z, labels, folds) for labels in (y, other))
        assert (before[folds == 2] == after[folds == 2]).all()
        assert (before[folds != 2] != after[folds != 2]).any()


def test_the_position_bias_is_corrected_as_the_symmetric_methods_must_not():
    z, y, folds = drawn()
    wrong = np.array([0.8, 0, 0])
    chosen, losses = select_calibrator(z + wrong, y, folds, methods=CALIBRATORS)
    assert chosen.name == "lean"
    assert chosen.lean == pytest.approx(-0.8, abs=0.1)
    assert losses["dirichlet"] - losses["lean"] > 0.02
    assert excess(chosen, lambda z: z + wrong) < 0.002


@pytest.mark.parametrize("folds", [[0, 1, 2], [0, 0, 0]])
def test_three_rows_are_no_reason_to_change_anything(folds):
    z, _, _ = drawn(3)
    chosen, losses = select_calibrator(z, np.array([0, 0, 1]), np.array(folds))
    assert chosen == Identity()
    assert np.isfinite(list(losses.values())).all()


def test_methods_are_compared_from_the_fewest_parameters_on():
    parameters = [CALIBRATORS[method].n_parameters for method in METHODS]
    assert METHODS[0] == "none"
    assert parameters == sorted(parameters)


def file_of(z, y, unlabelled=0):
    p = np.exp(z)
    p /= p.sum(axis=1, keepdims=True)
    labels = np.where(np.arange(len(y)) < len(y) - unlabelled, y, -1)
    ids = [str(i) for i in range(len(y))]
    return Forecasts(ids, p, labels, np.array([f"{i:016x}" for i in range(len(y))]))


def test_a_file_s_rows_without_a_label_are_calibrated_and_not_fitted_on():
    z, y, _ = drawn(1000)
    whole, part = (calibrate(file_of(z * 3, y, unlabelled=n)) for n in (0, 400))
    assert whole.calibrator.name == part.calibrator.name == "temperature"
    assert (len(part.labels), len(part.probabilities)) == (600, 1000)
    assert part.probabilities == pytest.approx(part.calibrator(z * 3))


def test_a_position_bias_of_the_forecasts_is_measured_against_the_votes():
    z, y, _ = drawn()
    first, second = np.array([0.8, 0, 0]), np.array([0, 0.8, 0])
    assert calibrate(file_of(z, y)).position_bias == 0
    bias = calibrate(file_of(z + first, y)).position_bias
    assert bias > 0.1
    assert calibrate(file_of(z + second, y)).position_bias < -0.1
    after = calibrate(file_of(z + first, y), asymmetric=True)
    assert after.calibrator.name == "lean"
    assert abs((after.after[:, 0] - after.after[:, 1]).mean()) < bias / 4
