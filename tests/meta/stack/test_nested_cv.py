import re
from dataclasses import replace

import numpy as np
import pytest

from arena.feature_table import Column, FeatureTable
from arena.folds import fold_of
from arena.view import KINDS
from common.errors import Code
from common.run_dir import RunDir
from common.steps import Steps
from meta.base_models import CrossFitted
from meta.base_models.baselines import Baselines
from meta.metrics.scores import log_loss
from meta.stack import model_io as bundle
from meta.stack import nested_cv as stage
from meta.stack.dataset import without_seen
from meta.stack.nested_cv import (
    CrossValidation,
    Settings,
    final,
    fits_in_all,
    folds_for,
    nested,
    part_scored,
)
from meta.stack.stacker import sets_of_views
from meta.votes import labels_of
from tests.helpers.errors import raises
from tests.helpers.toys import toy_evidence

SETTINGS = Settings(folds=4, trials=0, bags=1)


def score(evidence, tmp_path):
    folds = folds_for(evidence, SETTINGS.folds)
    return nested(CrossValidation(evidence, folds, RunDir(tmp_path)), SETTINGS), folds


def test_the_whole_finds_the_planted_signal(tmp_path):
    evidence = toy_evidence(300)
    scored, _ = score(evidence, tmp_path)
    y = labels_of(evidence.battles)[scored.rows]
    losses = {name: log_loss(p, y) for name, p in scored.probabilities.items()}
    assert losses["meta"] < min(losses["style"], losses["hidden"]) < losses["prior"]
    assert scored.swap_gap < 1e-9
    assert 0 < np.abs(scored.one_order - scored.probabilities["meta"]).max() < 0.3
    assert all(np.isfinite(p).all() for p in scored.probabilities.values())


def test_labels_of_a_scored_fold_reach_no_prediction_of_that_fold(tmp_path):
    evidence = toy_evidence(160)
    scored, folds = score(evidence, tmp_path / "a")
    k = 1
    battles = evidence.battles.copy()
    val_mask = folds == k
    battles.loc[val_mask, "label"] = (battles.loc[val_mask, "label"] + 1) % 3
    again, _ = score(replace(evidence, battles=battles), tmp_path / "b")
    for name, p in scored.probabilities.items():
        assert np.array_equal(p[val_mask], again.probabilities[name][val_mask]), name
        if name != "uniform":
            assert not np.array_equal(p[~val_mask], again.probabilities[name][~val_mask]), name


def test_of_many_rows_one_fold_is_scored_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "MANY_ROWS", 100)
    scored, folds = score(toy_evidence(160), tmp_path)
    assert scored.rows.tolist() == np.flatnonzero(folds == 0).tolist()
    assert list(scored.stackers) == [0]
    rows = len(scored.rows)
    assert all(p.shape == (rows, 3) for p in scored.probabilities.values())
    assert part_scored({"rows": rows, "outer_folds": {"scored": [0], "of": 4}}) == (
        f"Scored on one of 4 folds, since there are more than 100 battles: {rows} rows."
    )
    assert part_scored({"rows": 9, "outer_folds": {"scored": [0, 1, 2], "of": 3}}) == ""
    assert part_scored({"rows": 9}) == ""


def test_probes_of_a_training_row_never_saw_its_fold():
    evidence = toy_evidence(160)
    folds = folds_for(evidence, 4)
    y = labels_of(evidence.battles)
    flipped = np.where(folds == 2, (y + 1) % 3, y)
    one = CrossFitted(evidence.base_models["hidden"], y, folds)
    two = CrossFitted(evidence.base_models["hidden"], flipped, folds)
    for scored in (None, 0):
        first, second = one.out_of_fold(scored).values, two.out_of_fold(scored).values
        assert np.array_equal(first[folds == 2], second[folds == 2])
        assert not np.array_equal(first[folds == 1], second[folds == 1])
    assert np.array_equal(one.out_of_fold(2).values, two.out_of_fold(2).values)


def test_shuffled_labels_land_on_the_prior(tmp_path):
    evidence = toy_evidence(400)
    battles = evidence.battles.copy()
    rng = np.random.default_rng(3)
    battles["label"] = rng.permutation(battles["label"].to_numpy())
    scored, _ = score(replace(evidence, battles=battles), tmp_path)
    y = labels_of(battles)
    loss = {name: log_loss(p, y) for name, p in scored.probabilities.items()}
    assert abs(loss["meta"] - loss["prior"]) < 0.03


def test_progress_ends_at_what_was_announced(tmp_path):
    evidence = toy_evidence(120)
    folds, reports = folds_for(evidence, 4), []
    settings = replace(SETTINGS, trials=2)
    cv = CrossValidation(evidence, folds, RunDir(tmp_path), lambda: reports.append(1))
    budgets = [settings.budget_for(name) for name in sets_of_views(evidence.names)]
    nested(cv, settings)
    assert len(reports) == fits_in_all(folds, budgets, at_end=False)
    final(cv, settings)
    assert len(reports) == fits_in_all(folds, budgets)


def test_every_step_is_timed(tmp_path):
    evidence, steps = toy_evidence(120), Steps()
    cv = CrossValidation(evidence, folds_for(evidence, 4), RunDir(tmp_path), step=steps)
    nested(cv, SETTINGS)
    stacker = "bins", "tuning", "boosters", "forest", "calibration", "boosters on all rows"
    assert set(steps.seconds) == {"view hidden", "views alone", "prediction", *stacker}


def test_bundle_round_trip(tmp_path):
    evidence = toy_evidence(120)
    cv = CrossValidation(evidence, folds_for(evidence, 4), RunDir(tmp_path))
    trained = final(cv, SETTINGS)
    bundle.save(trained, tmp_path / "model")
    loaded = bundle.load(tmp_path / "model")
    fresh = toy_evidence(30, seed=9)
    for name, fusion in trained.stackers.items():
        before = fusion.predict(fusion.design(fresh.unseen(trained.base_models)))
        other = loaded.stackers[name]
        after = other.predict(other.design(fresh.unseen(loaded.base_models)))
        assert np.allclose(before, after, atol=1e-12), name
    assert np.array_equal(
        trained.baselines.predict(fresh.texts.lengths)["length"],
        loaded.baselines.predict(fresh.texts.lengths)["length"],
    )
    assert not list((tmp_path / "model").rglob("*.pkl"))


@pytest.mark.parametrize("text", ["", "{}", '{"format": 99}', "[1, 2]"])
def test_a_damaged_bundle_is_the_users_error(tmp_path, text):
    (tmp_path / "bundle.json").write_text(text)
    with raises(Code.MODEL_DAMAGED, match=re.escape(str(tmp_path))):
        bundle.load(tmp_path)


def test_a_missing_view_is_named(tmp_path):
    evidence = toy_evidence(120)
    cv = CrossValidation(evidence, folds_for(evidence, 4), RunDir(tmp_path))
    trained = final(cv, SETTINGS)
    without = replace(evidence, base_models={}).unseen({})
    with raises(Code.VIEW_MISSING, match="hidden"):
        trained.stackers["meta"].design(without)


def test_battles_that_taught_the_language_model_are_left_out():
    evidence = toy_evidence(160)
    assert without_seen(evidence) is evidence
    left_out = fold_of(evidence.battles["group"], 5) == 0
    values = np.where(left_out[:, None], 0.5, np.nan)

    def with_logits(values):
        logits = FeatureTable(evidence.battles["id"].tolist(), values, {"side": Column("anti")})
        kinds = {"x": KINDS["logits"]}
        return replace(evidence, tables={**evidence.tables, "x": logits}, table_kinds=kinds)

    # One that a judge could not read taught nobody: it stays, with NaN.
    one_lost = np.where(np.arange(160)[:, None] == 7, np.nan, 0.5)
    assert len(without_seen(with_logits(one_lost)).battles) == 160
    kept = without_seen(with_logits(values))
    ids = evidence.battles["id"][left_out].tolist()
    assert (
        kept.battles["id"].tolist()
        == kept.base_models["hidden"].ids
        == kept.tables["style"].ids
        == ids
    )
    states, every = (e.base_models["hidden"].states.slot(1) for e in (kept, evidence))
    for side, of_all in zip(states, every, strict=True):
        assert np.array_equal(side, of_all[left_out])


@pytest.mark.parametrize("folds", [3, 4, 5, 10, 15])
def test_battles_that_one_fold_left_out_are_parted_evenly(folds):
    evidence = toy_evidence(1600)
    kept = evidence.take(fold_of(evidence.battles["group"], 5) == 0)
    # They share a fold of five; they must be parted all the same, and groups kept together.
    fold = folds_for(kept, folds)
    counts = kept.battles.assign(fold=fold).groupby("fold")["group"].nunique()
    assert len(counts) == folds
    # Counts of a multinomial: 4 standard deviations.
    mean = counts.sum() / folds
    assert (abs(counts - mean) < 4 * np.sqrt(mean)).all()
    assert kept.battles.assign(fold=fold).groupby("group")["fold"].nunique().max() == 1


@pytest.mark.parametrize("settings", [{"folds": 2}, {"bags": 0}])
def test_too_few_folds_or_bags_are_refused(settings):
    with raises(Code.OPTION_INVALID):
        Settings(**settings)


def test_too_few_groups_are_refused():
    evidence = toy_evidence(4)
    with raises(Code.TOO_FEW_BATTLES):
        folds_for(replace(evidence, battles=evidence.battles.assign(group="0" * 16)), 5)


def test_nulls_by_hand():
    evidence = toy_evidence(40)
    y = np.array([0] * 20 + [1] * 10 + [2] * 10)
    predictions = Baselines.fit(evidence.texts.lengths, y).predict(evidence.texts.lengths)
    assert predictions["prior"][0] == pytest.approx([21 / 43, 11 / 43, 11 / 43])
    assert predictions["uniform"][0] == pytest.approx([1 / 3] * 3)
    assert predictions["length"].sum(axis=1) == pytest.approx(1.0)


def test_a_class_that_hardly_occurs_is_never_ruled_out(tmp_path):
    evidence = toy_evidence(120)
    labels = np.arange(120) % 2
    labels[7] = 2
    evidence = replace(evidence, battles=evidence.battles.assign(label=labels))
    scored, folds = score(evidence, tmp_path)
    least = 1 / (len(folds) - np.bincount(folds)[folds[7]] + 3)
    for name in ("style", "hidden", "meta"):
        tie = scored.probabilities[name][7, 2]
        assert tie == pytest.approx(least, rel=0.02), name
    loss = {name: log_loss(p, labels) for name, p in scored.probabilities.items()}
    assert loss["meta"] < loss["prior"] + 0.1
    assert loss["meta_uncalibrated"] > loss["meta"] + 0.1
