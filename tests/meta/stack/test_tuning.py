"""Tuning goes on where it was stopped, and ends with what an undisturbed study finds."""

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution

from arena.feature_table import Column, FeatureTable
from arena.folds import fold_of
from common.errors import Code
from meta.stack import tuning as module
from meta.stack.lightgbm_model import BASELINE, BothOrders, cross_validate
from meta.stack.tuning import fingerprint, set_aside_damaged, tune
from meta.votes import labels_of
from tests.helpers.errors import raises
from tests.helpers.toys import toy_evidence


@pytest.fixture(scope="module")
def data():
    evidence = toy_evidence(80)
    folds = fold_of(evidence.battles["group"], 3)
    return BothOrders(evidence.tables["style"], labels_of(evidence.battles)), folds


@pytest.fixture(scope="module")
def calm(data, tmp_path_factory):
    storage = tmp_path_factory.mktemp("calm") / "study.db"
    return tune(*data, 3, storage), finished(data, storage)


def finished(data, storage):
    study = optuna.load_study(study_name=fingerprint(*data), storage=f"sqlite:///{storage}")
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return [trial.params for trial in study.get_trials(states=states)]


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_interrupted_in_any_trial(data, calm, tmp_path, monkeypatch, stop):
    trials = []

    def stopping(*arguments, **how):
        trials.append(1)
        if len(trials) > stop:
            raise KeyboardInterrupt
        return cross_validate(*arguments, **how)

    storage = tmp_path / "study.db"
    with monkeypatch.context() as patch:
        patch.setattr(module, "cross_validate", stopping)
        with pytest.raises(KeyboardInterrupt):
            tune(*data, 3, storage)
    assert tune(*data, 3, storage) == calm[0]
    assert finished(data, storage) == calm[1]
    assert finished(data, storage)[0] == BASELINE


@pytest.mark.parametrize("content", [b"no database" * 500, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_study_is_moved_out_of_the_way(data, calm, tmp_path, capsys, content):
    storage = tmp_path / "study.db"
    storage.write_bytes(content)
    with raises(Code.TUNING_STORE_UNUSABLE, match=r"study\.db"):
        tune(*data, 3, storage)
    set_aside_damaged(storage)
    assert "is damaged" in capsys.readouterr().err
    assert (tmp_path / "study.db.damaged").read_bytes() == content
    assert tune(*data, 3, storage) == calm[0]


def test_parity_and_settings_are_part_of_the_studys_name(data, monkeypatch):
    rows, folds = data
    names = {fingerprint(rows, folds)}
    columns = rows.view.columns | {"x": Column("sym")}
    other = BothOrders(FeatureTable(rows.view.ids, rows.view.values, columns), rows.votes)
    names.add(fingerprint(other, folds))
    for name, value in {
        "FIXED": module.FIXED | {"max_bin": 31},
        "TRIAL_PARAMS": {"learning_rate": 0.2},
        "SPACE": module.SPACE | {"lambda_l1": FloatDistribution(1e-3, 20.0, log=True)},
        "BASELINE": BASELINE | {"num_leaves": 7},
        "MAX_ROUNDS": 9,
        "PATIENCE": 9,
        "SEED": 9,
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            names.add(fingerprint(rows, folds))
    with monkeypatch.context() as patch:
        patch.setattr(module.lgb, "__version__", "0")
        names.add(fingerprint(rows, folds))
    assert len(names) == 10
    assert fingerprint(rows, folds) in names


def test_trials_draw_from_the_search_space(calm):
    for params in calm[1][1:]:
        assert list(params) == list(module.SPACE)
        for name, value in params.items():
            assert module.SPACE[name].low <= value <= module.SPACE[name].high


def test_a_sound_study_stays(data, tmp_path):
    storage = tmp_path / "study.db"
    set_aside_damaged(storage)
    tune(*data, 1, storage)
    set_aside_damaged(storage)
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]
    assert np.isfinite(list(tune(*data, 1, storage)[0].values())).all()


def test_any_path_holds_the_studies(data, tmp_path):
    storage = tmp_path / "a?b#c%20 d" / "study.db"
    tune(*data, 1, storage)
    assert storage.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a?b#c%20 d"]


def test_of_many_rows_a_part_is_tried_with_its_own_folds_and_votes(data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TRIAL_ROWS", 60)
    seen = []

    def watched(part, folds, *rest):
        seen.append((part, folds))
        return cross_validate(part, folds, *rest)

    monkeypatch.setattr(module, "cross_validate", watched)
    both, folds = data
    tune(both, folds, 2, tmp_path / "study.db")
    for part, part_folds in seen:
        rows = [both.view.ids.index(name) for name in part.view.ids]
        assert len(set(rows)) == len(part.votes) == len(part_folds) == 60
        assert np.array_equal(part.votes, both.votes[rows])
        assert np.array_equal(part_folds, folds[rows])
        assert np.array_equal(part.view.values, both.view.values[rows])
    assert len(both.votes) > 60
