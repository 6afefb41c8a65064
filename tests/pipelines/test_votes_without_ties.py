"""A data set in which no vote is a tie, through the commands."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from arena.schema import CLASSES
from common.errors import Code
from common.run_dir import RunDir
from meta.stack import model_io
from meta.votes import chance_of_absent
from pipelines import extract, submit, train_meta
from tests.helpers.battle_files import lmsys
from tests.helpers.errors import raises
from tiebreak import Tiebreak


@pytest.fixture(scope="module")
def decided(tmp_path_factory, model_folder):
    """A trained run of 48 battles that all have a winner, with a test set."""
    folder = tmp_path_factory.mktemp("decided")
    table = pd.read_csv(lmsys(folder / "train.csv", 70))
    table = table[table["winner_tie"] == 0][:48]
    table.to_csv(folder / "train.csv", index=False)
    test = lmsys(folder / "test.csv", 8, 1, labelled=False)
    argv = ["--train", str(folder / "train.csv"), "--test", str(test), "--run", str(folder / "run")]
    assert extract.command([*argv, "--backbone", str(model_folder)]) == 0
    argv = ["--run", str(folder / "run"), "--views", "style,hidden,davidson", "--trials", "0"]
    assert train_meta.command([*argv, "--bags", "1"]) == 0
    return RunDir(folder / "run")


def test_the_audit_knows_that_there_are_no_ties(decided):
    metrics = json.loads(decided.metrics.read_text())
    verdicts = {finding["code"]: finding["verdict"] for finding in metrics["audit"]}
    assert verdicts["C13"] == verdicts["C16"] == "pass"
    losses = metrics["log_loss"]
    # No forecast loses more to ties that never were than the audit lets pass.
    assert losses["meta"] - losses["meta_uncalibrated"] < 0.001
    assert losses["prior"] < np.log(2) + 0.02


def test_ties_are_near_zero_and_the_model_remembers_why(decided, tmp_path):
    argv = ["--run", str(decided.folder), "--out", str(tmp_path / "out.csv")]
    assert submit.command(argv) == 0
    ties = pd.read_csv(tmp_path / "out.csv")[CLASSES[2]]
    assert ties.max() < 0.001
    assert ties.min() > 0
    stacker = model_io.load(decided.model).meta
    assert stacker.absent == (2,)
    assert ties.min() == pytest.approx(chance_of_absent(48), rel=0.01)


def test_wsdm_has_id_and_winner(decided, tmp_path):
    argv = ["--run", str(decided.folder), "--out", str(tmp_path / "out.csv"), "--layout", "wsdm"]
    assert submit.command(argv) == 0
    found = pd.read_csv(tmp_path / "out.csv")
    assert list(found) == ["id", "winner"]
    assert submit.command(argv[:-2]) == 0
    p = pd.read_csv(tmp_path / "out.csv")
    first = p[CLASSES[0]] >= p[CLASSES[1]]
    assert found["winner"].tolist() == np.where(first, "model_a", "model_b").tolist()


def test_another_tie_rate_brings_ties_back(decided):
    model = Tiebreak.load(decided.folder)
    assert model.tie_rate == pytest.approx(chance_of_absent(48))
    p = model.predict_proba("Why?", "green cat", "red dog", tie_rate=0.3)
    assert 0.05 < p[2] < 0.95


def test_a_chance_by_hand():
    assert chance_of_absent(48) == 1 / 2500


@pytest.mark.parametrize("absent", [[9], "2", 2, [None]])
def test_a_class_that_is_none_is_damage(decided, absent, tmp_path):
    folder = shutil.copytree(decided.model, tmp_path / "model")
    bundle = json.loads((folder / "bundle.json").read_text())
    bundle.pop("checksum")
    bundle["fusions"]["meta"]["absent"] = absent
    (folder / "bundle.json").write_text(json.dumps(model_io.signed(bundle)))
    with raises(Code.MODEL_DAMAGED):
        model_io.load(folder)
