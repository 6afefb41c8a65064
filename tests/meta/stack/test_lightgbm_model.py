import lightgbm as lgb
import numpy as np
import pytest

from meta.stack import lightgbm_model as gbm
from meta.stack.lightgbm_model import (
    BASELINE,
    BothOrders,
    cross_validate,
    raw_scores,
    raw_scores_as_given,
    train_on_all,
)
from meta.stack.tuning import tune
from tests.helpers.toys import toy_evidence

SMALL = {**BASELINE, "min_data_in_leaf": 10}


@pytest.fixture(scope="module")
def data():
    evidence = toy_evidence()
    return BothOrders(evidence.tables["style"], evidence.battles["label"].to_numpy(dtype=np.int64))


def folds_of(data):
    return np.arange(len(data.votes)) // 2 % 4


THIRTY = np.array([[10], [20], [30]])
"""Best rounds of three folds: 20 in the mean, and all rows are half as many again as a fold's."""


def test_prediction_is_equivariant(data):
    boosters = train_on_all(data, [SMALL], THIRTY)
    raw = raw_scores(boosters, data.view)
    swapped = raw_scores(boosters, data.view.swap())
    assert np.abs(raw[:, [1, 0, 2]] - swapped).max() < 1e-12


def test_the_mean_of_both_orders_is_the_prediction(data):
    boosters = train_on_all(data, [SMALL], THIRTY)
    one_order, swapped = (raw_scores_as_given(boosters, v) for v in (data.view, data.view.swap()))
    assert (one_order + swapped[:, [1, 0, 2]]) / 2 == pytest.approx(raw_scores(boosters, data.view))
    assert np.abs(one_order - swapped[:, [1, 0, 2]]).max() > 1e-3


def test_same_seed_gives_the_same_model(data):
    first = cross_validate(data, folds_of(data), [SMALL])
    second = cross_validate(data, folds_of(data), [SMALL])
    assert np.array_equal(first.raw, second.raw)
    assert np.array_equal(first.rounds, second.rounds)
    one, other = (train_on_all(data, [SMALL], THIRTY) for _ in range(2))
    assert one[0].model_to_string() == other[0].model_to_string()


def test_boosters_on_all_rows_are_trained_longer_by_as_much_as_there_are_more_rows(data):
    rounds = np.array([[10, 2], [20, 4], [30, 6]])
    boosters = train_on_all(data, [SMALL, {**SMALL, "num_leaves": 4}], rounds)
    assert [booster.current_iteration() for booster in boosters] == [30, 6]
    assert [booster.params["num_leaves"] for booster in boosters] == [15, 4]


def test_rounds_are_those_that_were_best_in_each_fold(data):
    found = cross_validate(data, folds_of(data), [SMALL, SMALL])
    assert found.rounds.shape == (4, 2)
    assert (found.rounds >= 1).all()


def test_a_study_goes_on_where_it_stopped(data, tmp_path):
    folds, counted = folds_of(data), []
    count = lambda: counted.append(1)  # noqa: E731
    tune(data, folds, 2, tmp_path / "a.db", count)
    resumed = tune(data, folds, 4, tmp_path / "a.db", count)
    assert len(counted) == 4
    assert resumed == tune(data, folds, 4, tmp_path / "b.db")
    tune(data, folds, 4, tmp_path / "a.db", count)
    assert len(counted) == 4


def test_no_trials_is_the_baseline(data, tmp_path):
    assert tune(data, folds_of(data), 0, tmp_path / "none.db") == [BASELINE]


def test_all_that_runs_beside_a_training_has_its_number_of_threads(data, monkeypatch):
    """LightGBM has one number a process: a training beside a call with another would crash."""
    monkeypatch.setattr(gbm.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(gbm, "ROWS_PER_THREAD", len(data.votes))
    assert gbm.threads_per_booster(2 * len(data.votes)) > gbm.threads_per_booster(len(data.votes))
    threads, train, predict = [], lgb.train, lgb.Booster.predict

    def trains(params, rows, *arguments, valid_sets, **options):
        threads.extend(x["num_threads"] for x in (params, rows.params, valid_sets[0].params))
        return train(params, rows, *arguments, valid_sets=valid_sets, **options)

    def predicts(booster, *arguments, num_threads, **options):
        threads.append(num_threads)
        return predict(booster, *arguments, num_threads=num_threads, **options)

    monkeypatch.setattr(lgb, "train", trains)
    monkeypatch.setattr(lgb.Booster, "predict", predicts)
    cross_validate(data, folds_of(data), [SMALL])
    assert len(threads) == 4 * (3 + 2)
    assert set(threads) == {2}
