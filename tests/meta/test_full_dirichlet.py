"""Dirichlet calibration with every weight free: what it finds, and when it holds back."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from arena.swap import SWAP
from meta.calibration import ASYMMETRIC, METHODS, calibrate, cross_fitted
from meta.calibrators import CALIBRATORS, PRIOR_ROWS
from meta.full_dirichlet import PENALTIES, FullDirichlet
from meta.metrics.scores import log_loss
from tests.helpers.calibration_toys import drawn
from tests.meta.test_calibration import file_of

TIES_TAKEN_FOR_A = FullDirichlet(a_a=0.9, a_tie=-0.6, tie_a=0.8, tie_tie=1.2, a=-0.2)
"""The truth of forecasts in which ties look like wins of A, and not like wins of B."""


def confused(n=4000, seed=1):
    """Scores, labels drawn from what ``TIES_TAKEN_FOR_A`` makes of them, and folds."""
    raw, _, folds = drawn(n, seed)
    log_p = np.log(TIES_TAKEN_FOR_A(raw))
    labels = (log_p + np.random.default_rng(seed + 100).gumbel(size=log_p.shape)).argmax(axis=1)
    return raw, labels, folds


def test_recovers_a_confusion_that_no_other_method_can():
    raw, labels, folds = confused()
    losses = {m: log_loss(cross_fitted(m, raw, labels, folds), labels) for m in CALIBRATORS}
    best, second = sorted(losses, key=losses.__getitem__)[:2]
    assert best == "full_dirichlet"
    assert losses[second] - losses[best] > 0.005
    truth = TIES_TAKEN_FOR_A(raw)
    found = FullDirichlet.fit_in_folds(raw, labels, folds)(raw)
    assert (truth * (np.log(truth) - np.log(found))).sum(axis=1).mean() < 0.003


def test_a_file_is_calibrated_by_it_only_where_that_is_asked_for():
    raw, labels, _ = confused()
    file = file_of(log_softmax(raw, axis=1), labels)
    assert "full_dirichlet" not in calibrate(file).out_of_fold
    assert calibrate(file, asymmetric=True).calibrator.name == "full_dirichlet"


def test_no_run_may_use_it():
    assert "full_dirichlet" in ASYMMETRIC
    assert "full_dirichlet" not in METHODS


def test_is_the_optimum_of_the_loss_with_the_penalties_of_the_paper():
    raw, labels, _ = confused(80)
    log_p = log_softmax(raw, axis=1)
    target = (np.eye(3)[labels] * 80 + np.exp(log_p) * PRIOR_ROWS) / (80 + PRIOR_ROWS)
    off, intercept = PENALTIES[-1]

    def loss(x):
        W, b = x[:9].reshape(3, 3), x[9:]
        cost = off * (W[~np.eye(3, dtype=bool)] ** 2).sum() + intercept * (b**2).sum()
        return -(target * log_softmax(log_p @ W.T + b, axis=1)).sum(axis=1).mean() + cost / 80

    expected = minimize(loss, [*np.eye(3).ravel(), 0, 0, 0], tol=1e-9).x
    numbers = np.array(list(FullDirichlet.fit(raw, labels).coefficients().values())).reshape(3, 4)
    assert numbers[:, :3].ravel() == pytest.approx(expected[:9], abs=1e-3)
    assert numbers[:, 3] == pytest.approx(expected[9:], abs=1e-3)


def test_where_there_is_nothing_to_find_the_penalties_are_strict():
    raw, labels, folds = drawn(2000)
    strict = FullDirichlet.fit_in_folds(raw, labels, folds)
    weak = FullDirichlet.fit(raw, labels)
    for name in ("a_b", "a_tie", "tie_a", "tie_b", "b"):
        assert abs(getattr(strict, name)) < abs(getattr(weak, name))


def test_penalties_are_chosen_without_the_rows_that_are_scored():
    raw, labels, folds = confused(600)
    other = np.where(folds == 2, (labels + 1) % 3, labels)
    before, after = (cross_fitted("full_dirichlet", raw, y, folds) for y in (labels, other))
    assert (before[folds == 2] == after[folds == 2]).all()


def test_exchanged_sides_give_the_exchanged_map():
    raw, labels, folds = confused(500)
    p = FullDirichlet.fit_in_folds(raw, labels, folds)(raw)
    swapped = FullDirichlet.fit_in_folds(raw[:, SWAP], np.array(SWAP)[labels], folds)
    assert swapped(raw[:, SWAP])[:, SWAP] == pytest.approx(p, abs=1e-6)
