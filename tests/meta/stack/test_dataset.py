"""Evidence of a run: of the battles that it has, and of one model for both splits."""

import numpy as np
import pandas as pd
import pytest

from arena.battle_table import texts_hash, write_battles
from arena.feature_table import Column, FeatureTable
from arena.reader import read_battles
from common.errors import Code
from common.run_dir import RunDir
from meta.stack.dataset import read_dataset
from tests.helpers.battle_files import as_csv, cells, save
from tests.helpers.errors import raises


def battles_of(folder, answer="yes"):
    rows = [cells(i, a=f"{answer} {i}") for i in range(3)]
    return read_battles(save(folder, as_csv(rows)), labelled=True)


def view_of(battles):
    return FeatureTable(battles["id"].tolist(), np.ones((3, 1)), {"x": Column("sym")})


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "run")
    for split in ("train", "test"):
        write_battles(run.battles(split), battles_of(tmp_path))
    return run


def put(run, name, split, battles, source="", kind=""):
    path = run.views / name / f"{split}.parquet"
    view_of(battles).write(path, texts_hash(battles), source, kind=kind)


@pytest.mark.parametrize(
    ("name", "kind", "command"),
    [
        ("style", "style", "extract.py --test FILE --run"),
        ("a", "logits", "finetune.py --view a --run"),
        ("b", "verdict", "verdict.py --view b --run"),
    ],
)
def test_other_texts_under_the_same_ids_are_other_battles(run, tmp_path, name, kind, command):
    put(run, name, "test", battles_of(tmp_path), kind=kind)
    assert name in read_dataset(run, "test").names
    other = battles_of(tmp_path, "no")
    write_battles(run.battles("test"), other)
    with raises(Code.VIEW_OUTDATED, match=rf"{name} .*{command}"):
        read_dataset(run, "test")
    put(run, name, "test", other, kind=kind)
    assert name in read_dataset(run, "test").names


def test_a_view_that_does_not_say_of_which_texts_it_is_is_of_others(run, tmp_path):
    view_of(battles_of(tmp_path)).write(run.views / "style" / "train.parquet")
    with raises(Code.VIEW_OUTDATED, match="style"):
        read_dataset(run, "train")


def test_both_splits_are_read_by_one_model(run, tmp_path):
    battles = battles_of(tmp_path)
    put(run, "likelihood", "train", battles, "one")
    put(run, "likelihood", "test", battles, "other")
    assert "likelihood" in read_dataset(run, "train").names
    with raises(Code.VIEW_DIFFERS, match="likelihood"):
        read_dataset(run, "test")
    put(run, "likelihood", "test", battles, "one")
    assert "likelihood" in read_dataset(run, "test").names


def test_set_aside_rows_have_no_part_in_it(run, tmp_path):
    battles = battles_of(tmp_path)
    aside = battles.iloc[[0]].assign(id="9", reason="bad", key="0" * 16)
    put(run, "style", "train", battles)
    write_battles(run.battles("train"), pd.concat([aside, battles]))
    assert read_dataset(run, "train").battles["id"].tolist() == battles["id"].tolist()


def test_a_view_of_before_kinds_were_noted_is_known_by_the_run_s_record(run, tmp_path):
    battles = battles_of(tmp_path)
    put(run, "mine", "train", battles)
    with raises(Code.VIEW_KIND_UNKNOWN, match="mine"):
        read_dataset(run, "train")
    backbone = {"asked": "tiny", "quantization": "none"}
    run.update_record(finetune={"mine": {"backbone": backbone}})
    assert read_dataset(run, "train").kinds["mine"].name == "logits"


def test_what_learns_from_other_views_does_not_learn_from_those_that_saw_votes(run, tmp_path):
    battles = battles_of(tmp_path)
    for name, kind in (("style", ""), ("a", "verdict"), ("b", "logits")):
        put(run, name, "train", battles, kind=kind)
    dataset = read_dataset(run, "train")
    assert set(dataset.tables) == {"style", "a", "b"}
    assert set(dataset.base_models["davidson"].design.columns) == {"style.x", "a.x"}


@pytest.mark.parametrize(
    ("view", "command"),
    [("style", "extract"), ("hidden", "extract"), ("joint", "finetune"), ("verdict", "verdict")],
)
def test_a_missing_view_names_the_command_that_makes_it(run, tmp_path, view, command):
    put(run, "likelihood", "train", battles_of(tmp_path))
    with raises(Code.VIEW_MISSING, match=rf"{view}.* {command}\.py"):
        read_dataset(run, "train", [view])
