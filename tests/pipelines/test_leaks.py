"""Leaks that are planted in a run, and what the commands say of them; handcrafted views only."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import features
from arena.battle_table import texts_hash, write_battles
from arena.feature_table import Column, FeatureTable
from arena.reader import read_battles
from arena.schema import CLASSES, TIE
from common.run_dir import RunDir
from features import signals
from pipelines import evaluate, train_meta
from tests.helpers.battle_files import lmsys


def handcrafted(folder, train, test):
    """A run of these tables, with the one view that needs neither a language model nor votes."""
    run = RunDir(folder)
    for split, table in (("train", train), ("test", test)):
        write_battles(run.battles(split), table)
        style = run.views / "style" / f"{split}.parquet"
        features.extract(table, workers=1).write(style, texts_hash(table))
    return run


def train(run, views):
    argv = ["--run", str(run.folder), "--views", views, "--trials", "0", "--bags", "1"]
    return train_meta.command([*argv, "--folds", "3"])


def failed(out):
    """Codes of the checks that a command's output says failed."""
    return re.findall(r"^  (C\d\d) ", out, re.MULTILINE)


def votes_of(battles, path):
    """A file of the battles' votes for evaluate.py."""
    votes = pd.DataFrame(np.eye(3, dtype=int)[battles["label"]], columns=list(CLASSES))
    votes.assign(id=battles["id"]).to_csv(path, index=False)
    return str(path)


def label_as_column(battles):
    """A view with one column: 1 where A won, -1 where B won."""
    label = battles["label"].to_numpy()
    side = np.where(label == TIE, 0.0, 1.0 - 2.0 * label)[:, None].astype(np.float32)
    return FeatureTable(battles["id"].tolist(), side, {"won": Column("anti")})


def test_planted_leaks_are_named_by_the_commands(tmp_path, capsys):
    battles = read_battles(str(lmsys(tmp_path / "train.csv", 60)), labelled=True)
    test = read_battles(str(lmsys(tmp_path / "test.csv", 20, 1)), labelled=True)
    same_prompt = test.assign(prompt=[*battles["prompt"][:2], *test["prompt"][2:]])
    run = handcrafted(tmp_path / "run", battles, same_prompt)
    for split, table in (("train", battles), ("test", same_prompt)):
        path = run.views / "further" / f"{split}.parquet"
        label_as_column(table).write(path, texts_hash(table), kind="likelihood")
    assert train(run, "style,further") == 0
    out = capsys.readouterr().out
    assert {"C09", "C11"} <= set(failed(out))
    assert "is further.won, which predicts the side with an AUC of 1.000" in out
    assert "Of 20 test battles 2 occur in training in part (2 by their prompt" in out

    # Test sets that come after the training and its audit: one that is sound, and one of which
    # three battles are training battles with the answers exchanged.
    same_answers = test.assign(
        response_a=[*battles["response_b"][:3], *test["response_a"][3:]],
        response_b=[*battles["response_a"][:3], *test["response_b"][3:]],
    )
    run.predictions.unlink()  # without which evaluate.py spares us the drawing of a report
    argv = ["--run", str(run.folder), "--labels", votes_of(test, tmp_path / "votes.csv")]
    for table, codes in ((test, []), (same_answers, ["C09"])):
        handcrafted(run.folder, battles, table)
        assert evaluate.command(argv) == 0
        out = capsys.readouterr().out
        assert failed(out) == codes
        assert f"audit: 1 check, {len(codes)} failed" in out
    assert "3 by their pair of answers" in out
    assert json.loads(run.evaluation.read_text())["audit"][0]["verdict"] == "fail"


@pytest.mark.parametrize(("parity", "gap"), [("sym", True), ("anti", False)])
def test_a_signal_of_the_wrong_parity_is_a_swap_gap(parity, gap, tmp_path, capsys, monkeypatch):
    longer = signals.PairSignal(lambda a, b, _: float(len(a.full) - len(b.full)), parity)
    monkeypatch.setattr(signals, "ANSWER", {})
    monkeypatch.setitem(signals.PAIR, "toy.longer", longer)
    battles = read_battles(str(lmsys(tmp_path / "train.csv", 120)), labelled=True)
    lengths = [[len(turns[0]) for turns in battles[f"response_{x}"]] for x in "ab"]
    tied = np.greater(*lengths)
    battles["label"] = np.where(tied, TIE, battles["label"] % TIE).astype(np.int8)
    run = handcrafted(tmp_path / "run", battles, battles[:9])
    assert train(run, "style") == 0
    assert ("C03" in failed(capsys.readouterr().out)) is gap
    found = json.loads(run.metrics.read_text())["swap_gap"]
    assert found > 1e-3 if gap else found < 1e-9


@pytest.mark.exhaustive
def test_shuffled_votes_land_on_the_prior(tmp_path):
    battles = read_battles(str(lmsys(tmp_path / "train.csv", 1200)), labelled=True)
    shuffled = np.random.default_rng(0).permutation(battles["label"].to_numpy())
    losses = []
    for name, labels in (("true", battles["label"]), ("shuffled", shuffled)):
        run = handcrafted(tmp_path / name, battles.assign(label=labels), battles[:9])
        assert train(run, "style,lexical,davidson") == 0
        losses.append(json.loads(run.metrics.read_text())["log_loss"])
    assert losses[0]["meta"] < losses[0]["prior"] - 0.1
    for name, loss in losses[1].items():
        if name != "uniform":
            assert loss == pytest.approx(losses[1]["prior"], abs=0.01), name
