"""finetune.py as a user runs it, on a tiny random model: fast, and every layer is real."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from arena.feature_table import FeatureTable
from arena.folds import fold_of, held_out
from arena.schema import CLASSES
from common.errors import Code
from common.run_dir import RunDir
from embeddings.judge.config import FOR_TRAINING, JudgeConfig
from embeddings.judge.trainer import CHECKPOINT, WEIGHTS, Trainer
from meta.stack.dataset import read_dataset
from pipelines import extract, finetune
from tests.helpers.battle_files import lmsys
from tests.helpers.errors import error_line, raises
from tests.helpers.tuned_runs import QUICK, extracted
from tiebreak import finetuning

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def trainings(monkeypatch):
    """The number of battles of every training."""
    found, run = [], Trainer.run

    def counted(self, *arguments):
        found.append(len(self.dataset.targets))
        run(self, *arguments)

    monkeypatch.setattr(Trainer, "run", counted)
    return found


def ids(run, split):
    return pq.read_table(run / "battles" / f"{split}.parquet", columns=["id"])["id"].to_pylist()


def test_the_view_is_of_both_splits_in_the_battles_order(tuned):
    for split in ("train", "test"):
        view = FeatureTable.read(tuned / "views" / "logits-toy" / f"{split}.parquet")
        assert view.ids == ids(tuned, split)
        assert np.isfinite(view.values).all()
        assert view.columns["side"].parity == "anti"
        assert view.columns["tie"].parity == "sym"


def test_another_test_set_is_only_read_with_the_settings_of_before(tuned, trainings, tmp_path):
    before = (tuned / "views" / "logits-toy" / "train.parquet").read_bytes()
    more = lmsys(tmp_path / "more.csv", 7, 2, labelled=False)
    assert extract.command(["--test", str(more), "--run", str(tuned)]) == 0
    with raises(Code.VIEW_OUTDATED, match=r"finetune\.py --view logits-toy"):
        read_dataset(RunDir(tuned), "test", ["logits-toy"])
    assert finetune.command(["--run", str(tuned)]) == 0
    assert {"joint", "logits-toy"} <= set(read_dataset(RunDir(tuned), "test").names)
    assert trainings == []
    view = FeatureTable.read(tuned / "views" / "logits-toy" / "test.parquet")
    assert view.ids == ids(tuned, "test")
    assert len(view.ids) == 7
    assert (tuned / "views" / "logits-toy" / "train.parquet").read_bytes() == before


def test_changed_settings_and_a_second_view_train_anew(tuned, trainings):
    argv = ["--run", str(tuned), "--view", "logits-b", *QUICK]
    assert finetune.command([*argv, "--average-adapters", "--top-layers", "1"]) == 0
    assert len(trainings) == 2
    assert finetune.command(["--run", str(tuned), "--view", "logits-b"]) == 0
    assert len(trainings) == 2
    record = json.loads((tuned / "run.json").read_text())["finetune"]
    assert record["logits-b"]["average_adapters"]
    assert record["logits-b"]["recipe"]["top_layers"] == 1
    assert not record["logits-toy"]["average_adapters"]
    # Told again without the option, the judges stay and the test battles are read by each.
    argv = ["--run", str(tuned), "--view", "logits-b", "--no-average-adapters"]
    assert finetune.command(argv) == 0
    assert len(trainings) == 2


@pytest.mark.parametrize(
    "bad",
    [["--max-tokens", "4096"], ["--teacher", "none.csv"], ["--lr", "1e30"], ["--folds", "1"]],
    ids=lambda bad: bad[0],
)
def test_a_value_that_failed_is_not_gone_on_with(tuned, bad, capsys, monkeypatch):
    if bad[0] == "--folds":
        monkeypatch.setattr(finetuning, "held_out", lambda *_: held_out(["0" * 16] * 24, 1))
    argv = ["--run", str(tuned)]
    record = RunDir(tuned).read_record()
    assert finetune.command([*argv, *bad]) == 2
    capsys.readouterr()
    monkeypatch.undo()
    assert RunDir(tuned).read_record() == record
    assert finetune.command(argv) == 0


def test_another_backbone_has_its_own_recipe(tuned, toy_folder, tmp_path, monkeypatch):
    yaml = tmp_path / "other.yaml"
    yaml.write_text(f"source: {toy_folder}\nfinetune:\n  epochs: 3\n  rank: 5\n")
    (tmp_path / "run").mkdir()
    record = RunDir(tuned).read_record()
    last = {**record["finetune"]["logits-toy"], "folds": 7}
    (tmp_path / "run" / "run.json").write_text(
        json.dumps({**record, "finetune": {"logits-b": last}})
    )
    shutil.copytree(tuned / "battles", tmp_path / "run" / "battles")
    found = []
    monkeypatch.setattr(finetune, "plan_lines", lambda _, options: found.append(options) or [])
    same, other = ["--backbone", str(toy_folder)], ["--backbone", str(yaml), "--batch", "3"]
    for argv in ([], same, other):
        argv = ["--run", str(tmp_path / "run"), "--view", "logits-b", "--dry-run", *argv]
        assert finetune.command(argv) == 0
    assert [options.training.rank for options in found] == [4, 4, 5]
    assert found[2].training == JudgeConfig(epochs=3, rank=5, batch=3)
    assert [options.folds for options in found] == [7, 7, 7]


def test_one_fold_leaves_the_other_battles_without_logits(tuned, trainings):
    argv = ["--run", str(tuned), "--view", "logits-thrifty", *QUICK, "--folds", "1"]
    assert finetune.command(argv) == 0
    view = FeatureTable.read(tuned / "views" / "logits-thrifty" / "train.parquet")
    groups = pq.read_table(tuned / "battles" / "train.parquet")["group"].to_pylist()
    known = fold_of(groups, 5) == 0
    assert np.isfinite(view.values[known]).all()
    assert np.isnan(view.values[~known]).all()
    assert trainings == [(~known).sum()]


def test_a_joint_view_of_other_battles_does_not_stay_where_none_is_made(tuned, tmp_path, capsys):
    run = shutil.copytree(tuned, tmp_path / "run")
    joint = run / "views" / "joint"
    argv = ["--run", str(run), "--view", "logits-last", "--folds", "2", "--max-tokens", "256"]
    argv += ["--pool", "last", "--epochs", "0"]
    assert finetune.command(argv) == 0
    assert len(list(joint.glob("*.parquet"))) == 2
    more = lmsys(tmp_path / "more.csv", 5, 3, labelled=False)
    assert extract.command(["--test", str(more), "--run", str(run)]) == 0
    assert finetune.command(argv) == 0
    assert "view joint is of other battles" in capsys.readouterr().out
    assert list(joint.glob("*.parquet")) == []


def test_what_a_judge_was_made_with_is_written_again_where_it_is_cut(tuned, tmp_path, trainings):
    run = shutil.copytree(tuned, tmp_path / "run")
    paths = list((run / "finetune").glob("*/settings.json"))
    before = [path.read_bytes() for path in paths]
    for path in paths:
        path.write_bytes(path.read_bytes()[:10])
    shards = list((run / "finetune").glob("*/logits/*.safetensors"))
    assert shards
    for path in shards:
        path.unlink()
    assert finetune.command(["--run", str(run), "--view", "logits-toy", *QUICK]) == 0
    assert trainings == []
    # Those of the other views' judges stay.
    assert sum(path.read_bytes() in before for path in paths) == 2


def test_soft_labels_and_a_teacher(tuned, tmp_path, trainings, capsys):
    soft = pd.DataFrame(
        np.random.default_rng(0).dirichlet([1, 1, 1], 24), columns=list(CLASSES)
    ).assign(id=ids(tuned, "train"))
    soft.to_csv(tmp_path / "soft.csv", index=False)
    teacher = tuned / "views" / "logits-toy" / "train.parquet"
    argv = ["--run", str(tuned), "--view", "logits-student", *QUICK, "--folds", "1"]
    argv += ["--soft-labels", str(tmp_path / "soft.csv"), "--teacher", str(teacher)]
    assert finetune.command(argv) == 0
    assert "must not have learned from these votes" in capsys.readouterr().out
    assert finetune.command([*argv[:-2], "--teacher", "none"]) == 0
    assert len(trainings) == 2


@pytest.mark.parametrize("kept", ["/etc/passwd", "http://127.0.0.1:1/x.csv", "none.csv"])
@pytest.mark.parametrize("option", ["soft_labels", "teacher"])
def test_a_file_that_the_run_names_is_opened_only_within_the_run(tuned, option, kept, capsys):
    run = RunDir(tuned)
    (before,) = [entry for name, entry in run.read_record()["finetune"].items() if "toy" in name]
    run.update_record(finetune={"logits-named": {**before, option: kept}})
    argv = ["--run", str(tuned), "--view", "logits-named", "--dry-run"]
    assert finetune.command(argv) == 2
    word = f"--{option.replace('_', '-')}"
    assert f"{word} {kept}" in error_line(capsys, Code.OPTION_OUTDATED)
    assert finetune.command([*argv, word, "none"]) == 0
    inside = tuned / "views" / "logits-toy" / "train.parquet"
    run.update_record(finetune={"logits-named": {**before, option: str(inside)}})
    assert finetune.command(argv) == 0


def test_where_nothing_is_trained_an_option_of_training_is_refused(tuned, capsys, tmp_path):
    argv = ["--run", str(tuned), "--view", "logits-idle", "--epochs", "0", "--dry-run"]
    assert finetune.command([*argv, "--pool", "answers", "--teacher", "none"]) == 0
    idle = [f.name for f in fields(JudgeConfig) if f.name in FOR_TRAINING]
    assert set(idle) == set(FOR_TRAINING)
    teacher = str(tuned / "views" / "logits-toy" / "train.parquet")
    value = {"head": "mlp", "teacher": teacher}
    for name in (*idle, "teacher"):
        option = "--" + name.replace("_", "-")
        given = [] if name == "gradient_checkpointing" else [value.get(name, "1")]
        if name == "dropout":
            given = ["0.1"]
        assert finetune.command([*argv, option, *given]) == 2
        assert option in error_line(capsys, Code.OPTION_WITHOUT_EFFECT)
    assert finetune.command([*argv, "--rank", "3", "--lr", "1", "--teacher", teacher]) == 2
    assert "--rank, --lr, --teacher" in error_line(capsys, Code.OPTION_WITHOUT_EFFECT)


@pytest.mark.parametrize(
    ("argv", "code", "value"),
    [
        (["--view", "mine"], Code.OPTION_INVALID, "mine"),
        (["--view", "../logits"], Code.OPTION_INVALID, "../logits"),
        (["--rank", "0"], Code.RECIPE_INVALID, "rank"),
        (["--head", "tail"], Code.RECIPE_INVALID, "tail"),
        (["--top-layers", "9", "--view", "logits-x"], Code.LAYERS_INVALID, "2 layers"),
        (["--max-tokens", "4096", "--view", "logits-x"], Code.CONTEXT_EXCEEDED, "4096"),
        (["--max-tokens", "50", "--view", "logits-x"], Code.MAX_TOKENS_TOO_SMALL, "50"),
        (["--teacher", "none.csv", "--view", "logits-x"], Code.INPUT_MISSING, "none.csv"),
        (["--backbone", "gpt-9"], Code.BACKBONE_UNKNOWN, "gpt-9"),
    ],
)
@pytest.mark.parametrize("plan", [[], ["--dry-run"]])
def test_a_mistake_is_one_line(tuned, argv, code, value, plan, capsys):
    assert finetune.command(["--run", str(tuned), *argv, *plan]) == 2
    assert value in error_line(capsys, code)


def test_a_run_that_is_not_there_is_one_line(tmp_path, capsys):
    assert finetune.command(["--run", str(tmp_path / "none")]) == 2
    error_line(capsys, Code.SPLIT_NOT_EXTRACTED)


def start(run, *extra):
    argv = ["--run", str(run), *QUICK, "--epochs", "3", "--checkpoint-steps", "2", *extra]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "pipelines" / "finetune.py"), *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def judges(run):
    return {p.parent.name: load_file(p) for p in sorted((run / "finetune").rglob(WEIGHTS))}


@pytest.mark.exhaustive
def test_killed_twice_gives_the_same_bits(tmp_path, toy_folder):
    yaml = tmp_path / "exact.yaml"
    yaml.write_text(f"source: {toy_folder}\ndtype: float32\n")
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
    calm, run = (extracted(tmp_path / n, yaml, n=120) for n in ("calm", "killed"))
    assert start(calm).wait() == 0
    kills = 0
    for finished in (0, 1):
        process = start(run)
        while process.poll() is None:
            folders = list((run / "finetune").glob("*"))
            done = sum((f / WEIGHTS).exists() for f in folders)
            if done == finished and any((f / CHECKPOINT).exists() for f in folders):
                os.killpg(process.pid, signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
                break
            time.sleep(0.001)
    assert kills == 2
    assert start(run).wait() == 0
    expected, found = judges(calm), judges(run)
    assert len(found) == 2
    assert set(found) == set(expected)
    for judge, weights in found.items():
        for name, weight in weights.items():
            assert np.array_equal(weight, expected[judge][name])
    for split in ("train", "test"):
        path = Path("views") / "logits-exact" / f"{split}.parquet"
        assert (run / path).read_bytes() == (calm / path).read_bytes()
