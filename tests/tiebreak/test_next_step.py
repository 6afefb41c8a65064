"""Which command comes next, in every state of a run."""

import json

import numpy as np
import pytest

from arena.battle_table import texts_hash, write_battles
from arena.feature_table import Column, FeatureTable
from arena.reader import read_battles
from common.run_dir import RunDir
from tests.helpers.battle_files import lmsys
from tiebreak.next_step import evidence_hash, next_step


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path / "run")


def add(run, split, seed=0, labelled=True, views=("style",)):
    """Battles of a split and their views."""
    path = lmsys(run.folder.parent / f"{split}.csv", 4, seed, labelled=labelled)
    table = read_battles([str(path)], labelled=labelled)
    write_battles(run.battles(split), table)
    for view in views:
        add_view(run, split, table, view)
    run.update_record(inputs={split: {"sha256": f"{split} {seed}"}})
    return table


def add_view(run, split, table, view, source=""):
    ids = table["id"].tolist()
    values = FeatureTable(ids, np.zeros((len(ids), 1), np.float32), {"x": Column("anti")})
    values.write(run.views / view / f"{split}.parquet", texts_hash(table), source, "logits")


def train(run, **kinds):
    """A model of the run's training evidence."""
    run.model.mkdir(parents=True, exist_ok=True)
    bundle = {"kinds": {"style": "style", "davidson": "davidson", **kinds}}
    (run.model / "bundle.json").write_text(json.dumps(bundle))
    run.update_record(trained=evidence_hash(run))


def step(run, **how):
    return next_step(run, **how).removesuffix(f" --run {run.folder}")


def test_battles_without_votes_need_some_to_train_on(run):
    add(run, "test", labelled=False)
    assert step(run) == "extract.py --train FILE"


def test_battles_with_votes_are_trained_on(run):
    add(run, "train")
    assert step(run) == "train_meta.py"
    add(run, "test", 1)
    assert step(run) == "train_meta.py"


def test_a_model_without_a_test_set_needs_one(run):
    add(run, "train")
    train(run)
    assert step(run) == "extract.py --test FILE"


def test_a_test_set_of_a_model_is_predicted_and_then_scored_where_votes_are_known(run):
    add(run, "train")
    train(run)
    add(run, "test", 1)
    assert step(run) == "submit.py"
    assert step(run, submitted=True) == "evaluate.py"
    add(run, "test", 1, labelled=False)
    assert step(run, submitted=True) == ""


def test_other_training_battles_or_another_view_make_the_model_old(run):
    table = add(run, "train")
    train(run)
    add(run, "test", 1)
    add_view(run, "train", table, "logits-a")
    assert step(run) == "train_meta.py"
    train(run)
    assert step(run) == "submit.py"
    add(run, "train", 2)
    assert step(run) == "train_meta.py"


@pytest.mark.parametrize(
    ("view", "kind", "command"),
    [
        ("logits-a", "logits", "finetune.py --view logits-a"),
        ("verdict-b", "verdict", "verdict.py --view verdict-b"),
        ("joint", "joint", "finetune.py --pool answers"),
    ],
)
def test_a_view_that_the_model_needs_of_new_test_battles_comes_first(run, view, kind, command):
    add(run, "train", views=("style", view))
    train(run, **{view: kind})
    table = add(run, "test", 1)
    assert step(run) == command
    add_view(run, "test", table, view)
    assert step(run) == "submit.py"
    add(run, "test", 2)
    assert step(run) == command


def test_a_model_and_its_record_alone_take_a_test_set(run):
    add(run, "train")
    train(run)
    run.battles("train").unlink()
    (run.views / "style" / "train.parquet").unlink()
    assert step(run) == "extract.py --test FILE"
    add(run, "test", 1)
    assert step(run) == "submit.py"


def test_a_model_of_before_this_was_recorded_is_taken_for_current(run):
    add(run, "train")
    train(run)
    run.update_record(trained="")
    add(run, "test", 1)
    assert step(run) == "submit.py"
