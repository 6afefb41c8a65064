"""Soft labels and weights through the commands."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from arena.battle_table import read_battles_table, write_battles
from arena.schema import A, B
from common.run_dir import RunDir
from meta.stack.predictions import Predictions
from pipelines import evaluate, finetune, train_meta
from tests.helpers.tuned_runs import QUICK

QUICKEST = ["--views", "style,hidden,davidson", "--trials", "0", "--bags", "1", "--folds", "3"]
COMPARED = ("predictions.parquet", "model/bundle.json", "model/meta/booster-00.txt")


def with_votes(trained, folder, split="train", **columns):
    """A copy of the run with other columns of votes."""
    run = RunDir(shutil.copytree(trained, folder))
    table = read_battles_table(run.battles(split)).assign(**columns)
    write_battles(run.battles(split), table)
    return run


def contents(run):
    metrics = json.loads(run.metrics.read_text())
    return [*((run.folder / name).read_bytes() for name in COMPARED), metrics["log_loss"]]


def train(run):
    assert train_meta.command(["--run", str(run.folder), *QUICKEST]) == 0
    return contents(run)


def soft(labels, share=0.8):
    rest = (1 - share) / 2
    return pd.Series([[share if k == y else rest for k in range(3)] for y in labels], dtype=object)


@pytest.fixture(scope="module")
def plain(trained, tmp_path_factory):
    """What training gives without weights and shares."""
    return train(RunDir(shutil.copytree(trained, tmp_path_factory.mktemp("plain") / "run")))


def test_one_weight_and_whole_shares_change_no_byte(trained, plain, tmp_path):
    labels = read_battles_table(RunDir(trained).battles("train"))["label"]
    run = with_votes(trained, tmp_path / "run", weight=0.1, soft_label=soft(labels, 1.0))
    assert train(run) == plain


def test_shared_votes_and_weights_train_and_are_told(trained, plain, tmp_path, capsys):
    labels = read_battles_table(RunDir(trained).battles("train"))["label"].to_numpy()
    weight = np.where(np.arange(60) % 2 == 0, 0.5, 2.0)
    weight[7] = 0.0
    columns = {"soft_label": soft(labels), "weight": weight}
    run = with_votes(trained, tmp_path / "run", **columns)
    found = train(run)
    out = capsys.readouterr().out
    assert "1 battles have the weight 0 and are left out" in out
    assert "59 of them are shared among the classes (soft labels); weights from 0.5 to 2" in out
    metrics = json.loads(run.metrics.read_text())
    assert metrics["rows"] == 59
    assert metrics["swap_gap"] < 1e-9
    assert found[-1]["uniform"] == pytest.approx(np.log(3))
    # The mean entropy of the shares bounds every cross entropy against them.
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.1))
    assert min(found[-1].values()) > entropy
    assert sum(metrics["class_share"]) == pytest.approx(1)
    kept = Predictions.read(run.predictions)
    assert kept.shares == pytest.approx(np.array(soft(kept.labels).tolist()))
    prior = json.loads((run.model / "bundle.json").read_text())["prior"]
    kept = np.arange(60) != 7
    shares = np.array(soft(labels).tolist())[kept] * (weight / weight[kept].mean())[kept, None]
    assert prior == pytest.approx((shares.sum(axis=0) + 1) / (shares.sum() + 3))


def test_shared_votes_of_test_battles_are_scored_by_cross_entropy(trained, tmp_path):
    columns = {"label": np.array([A, B] * 6, np.int8), "soft_label": soft([A, B] * 6)}
    run = with_votes(trained, tmp_path / "run", "test", **columns)
    assert evaluate.command(["--run", str(run.folder)]) == 0
    found = json.loads(run.evaluation.read_text())
    assert found["rows"] == 12
    assert found["class_share"] == pytest.approx([0.45, 0.45, 0.1])
    prior = np.array(json.loads((run.model / "bundle.json").read_text())["prior"])
    assert found["log_loss"]["prior"] == pytest.approx(-np.log(prior) @ [0.45, 0.45, 0.1])


def test_a_judge_learns_from_shares_and_weights(tuned, tmp_path, monkeypatch):
    labels = read_battles_table(RunDir(tuned).battles("train"))["label"]
    weight = np.where(np.arange(len(labels)) % 2 == 0, 0.5, 1.5)
    run = with_votes(tuned, tmp_path / "run", soft_label=soft(labels), weight=weight)
    learned = []

    def crossfit(judges, dataset, *_):
        learned.append(dataset.targets)
        raise KeyboardInterrupt

    monkeypatch.setattr("tiebreak.finetuning.crossfit", crossfit)
    assert finetune.command(["--run", str(run.folder), *QUICK]) == 130
    shares = np.array(soft(labels).tolist()) * (weight / weight.mean())[:, None]
    assert learned[0] == pytest.approx(shares.astype(np.float32))
