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


def test_prediction_is_equivariant(data):
    trained = cross_validate(data, folds_of(data), [SMALL])
    raw = raw_scores(trained.boosters, data.view)
    swapped = raw_scores(trained.boosters, data.view.swap())
    assert np.abs(raw[:, [1, 0, 2]] - swapped).max() < 1e-12


def test_the_mean_of_both_orders_is_the_prediction(data):
    boosters = cross_validate(data, folds_of(data), [SMALL]).boosters
    one_order, swapped = (raw_scores_as_given(boosters, v) for v in (data.view, data.view.swap()))
    assert (one_order + swapped[:, [1, 0, 2]]) / 2 == pytest.approx(raw_scores(boosters, data.view))
    assert np.abs(one_order - swapped[:, [1, 0, 2]]).max() > 1e-3


def test_same_seed_gives_the_same_model(data):
    first = cross_validate(data, folds_of(data), [SMALL])
    second = cross_validate(data, folds_of(data), [SMALL])
    assert np.array_equal(first.raw, second.raw)
    assert first.boosters[0].model_to_string() == second.boosters[0].model_to_string()


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
