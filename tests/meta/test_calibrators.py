"""What every calibrator holds to, and the optimum that the most general one must reach."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from arena.swap import SWAP
from meta.calibration import METHODS
from meta.calibrators import CALIBRATORS, PRIOR_ROWS, Dirichlet, LinearCalibrator, from_json
from meta.metrics.scores import log_loss
from tests.helpers.calibration_toys import FRESH, drawn

LINEAR = [name for name, method in CALIBRATORS.items() if issubclass(method, LinearCalibrator)]


def weights(calibrator):
    """The same map as softmax(W l + b): W (3, 3) and b (3,).

    Among the many that are equal to the softmax, the one of least off-diagonal weights and biases.
    """
    c = calibrator
    off = (c.side - c.both) / 4
    W = np.array([[c.side - off, -off, 0], [-off, c.side - off, 0], [off, off, c.tie]])
    b = np.array([-c.bias / 3, -c.bias / 3, 2 * c.bias / 3])
    return W, b + np.array([c.lean / 2, -c.lean / 2, 0])


@pytest.mark.parametrize("method", METHODS)
def test_a_swap_swaps_to_the_last_bit(method):
    z, y, _ = drawn(500)
    z[:50] *= 1000
    calibrator = CALIBRATORS[method].fit(z + np.array([0.3, 0, 1]), y)
    assert (calibrator(z)[:, SWAP] == calibrator(z[:, SWAP])).all()
    tied = calibrator(np.array([[0.7, 0.7, -1.0]]))
    assert tied[0, 0] == tied[0, 1]


@pytest.mark.parametrize("method", LINEAR)
def test_is_one_linear_map_of_the_log_probabilities(method):
    z, y, _ = drawn(400)
    calibrator = CALIBRATORS[method].fit(z * 2 + [0.5, 0, 1], y)
    W, b = weights(calibrator)
    assert (W[SWAP][:, SWAP] == W).all()
    assert (b[0] == b[1]) == (method != "lean")
    assert softmax(log_softmax(z, axis=1) @ W.T + b, axis=1) == pytest.approx(calibrator(z))


def test_dirichlet_is_the_optimum_over_all_tied_weights():
    """Four numbers are fitted; here all seven, with the penalty as it is written in the paper."""
    z, y, _ = drawn(60)
    z = z * 2 + [0, 0, 1]
    log_p = log_softmax(z, axis=1)
    target = (np.eye(3)[y] * 60 + np.exp(log_p) * PRIOR_ROWS) / (60 + PRIOR_ROWS)

    def unpack(x):
        same, other, from_tie, to_tie, tie, bias, tie_bias = x
        W = np.array([[same, other, from_tie], [other, same, from_tie], [to_tie, to_tie, tie]])
        return W, np.array([bias, bias, tie_bias])

    def loss(x):
        W, b = unpack(x)
        off = (W[~np.eye(3, dtype=bool)] ** 2).sum() + (b**2).sum()
        fit = log_softmax(log_p @ W.T + b, axis=1)
        return -(target * fit).sum(axis=1).mean() + Dirichlet.penalty / 60 * off

    W, b = unpack(minimize(loss, [1, 0, 0, 0, 1, 0, 0], tol=1e-9).x)
    calibrator = CALIBRATORS["dirichlet"].fit(z, y)
    assert weights(calibrator)[0] == pytest.approx(W, abs=1e-3)
    assert weights(calibrator)[1] == pytest.approx(b, abs=1e-3)


@pytest.mark.parametrize("method", CALIBRATORS)
@pytest.mark.parametrize("labels", [[], [0], [2], [0, 0, 1], [1, 1, 2], [0, 1, 2]])
def test_a_few_rows_give_a_finite_map(method, labels):
    z, _, _ = drawn(3)
    calibrator = CALIBRATORS[method].fit(z[: len(labels)], np.array(labels, dtype=int))
    p = calibrator(FRESH)
    assert calibrator.name == method
    assert np.isfinite(list(calibrator.coefficients().values())).all()
    assert p.min() > 0
    assert p.sum(axis=1) == pytest.approx(1)


def test_a_class_that_never_occurs_keeps_the_share_of_one_row_in_n():
    z, y, _ = drawn(200)
    z, y = z[y != 2][:99], y[y != 2][:99]
    p = CALIBRATORS["vector"].fit(z, y)(z)
    assert p[:, 2].mean() == pytest.approx(softmax(z, axis=1)[:, 2].mean() / 100, rel=1e-3)


@pytest.mark.parametrize("method", LINEAR)
def test_identical_rows_get_their_rate(method):
    raw = np.tile(np.log([0.3, 0.3, 0.4]), (1000, 1))
    y = np.repeat([0, 1, 2], [100, 100, 800])
    p = CALIBRATORS[method].fit(raw, y)(raw[:1])[0]
    assert p == pytest.approx([0.3, 0.3, 0.4] if method == "none" else [0.1, 0.1, 0.8], abs=0.01)


@pytest.mark.parametrize("method", CALIBRATORS)
@pytest.mark.parametrize("worst", [-np.inf, -1e300, -1e4])
def test_certainty_that_is_wrong_is_tamed(method, worst):
    """Forecasts of exactly 0 and 1, right four times in five."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 1000)
    said = np.where(rng.random(1000) < 0.8, y, (y + rng.integers(1, 3, 1000)) % 3)
    raw = np.where(np.eye(3)[said] == 1, 0.0, worst)
    calibrator = CALIBRATORS[method].fit(raw, y)
    p = calibrator(raw)
    assert p.sum(axis=1) == pytest.approx(1)
    assert (calibrator(raw[:, SWAP]) == p[:, SWAP]).all() or not calibrator.symmetric
    if method == "none":
        assert log_loss(p, y) > 6
    # A bias alone moves no certainty of one side against the other.
    elif method != "bias":
        assert p.max(axis=1).mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("method", CALIBRATORS)
def test_does_not_depend_on_a_constant_of_each_row(method):
    z, y, _ = drawn(300)
    shift = np.random.default_rng(1).normal(scale=20, size=(300, 1))
    assert CALIBRATORS[method].fit(z + shift, y)(z) == pytest.approx(
        CALIBRATORS[method].fit(z, y)(z)
    )


@pytest.mark.parametrize("method", METHODS)
def test_never_turns_a_preference_around(method):
    z, y, _ = drawn(1000)
    p = CALIBRATORS[method].fit(-z, y)(FRESH)
    assert ((p[:, 0] - p[:, 1]) * (FRESH[:, 0] - FRESH[:, 1]) >= 0).all()


@pytest.mark.parametrize("method", CALIBRATORS)
def test_survives_json_to_the_last_bit(method):
    z, y, _ = drawn(300)
    calibrator = CALIBRATORS[method].fit(z * 3, y)
    again = from_json(json.loads(json.dumps(calibrator.to_json())))
    assert again == calibrator
    assert (again(z) == calibrator(z)).all()


def test_a_saved_entry_is_read_by_its_method():
    numbers = {"side": 0.5, "tie": 0.5, "both": 0.5, "bias": -0.25, "lean": 0.0}
    entry = {"method": "bcts", **numbers}
    calibrator = from_json(entry)
    assert calibrator == CALIBRATORS["bcts"](**numbers)
    assert calibrator.to_json() == entry


@pytest.mark.parametrize(
    "entry",
    [{}, {"method": "none", "side": "x"}, {"method": "none", "far": 1.0}, {"method": "unknown"}],
)
def test_a_damaged_entry_is_refused(entry):
    with pytest.raises((LookupError, TypeError, ValueError)):
        from_json(entry)
