"""A run in a folder that cannot be written predicts; its model and run.json suffice."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import Code
from common.run_dir import RunDir
from pipelines import evaluate, extract, submit, train_meta
from tests.helpers.battle_files import lmsys
from tests.helpers.errors import error_line
from tests.helpers.read_only import read_only
from tiebreak import Tiebreak

PAIR = ("Which is green?", "the cat runs because", "1 2 list")


@pytest.fixture(scope="module")
def shared_folder():
    """A folder that everybody may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "out").mkdir()
    (folder / "out").chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def run(trained, shared_folder):
    """A run of signals alone, with votes on its test battles, that will be read-only."""
    labelled = lmsys(trained.parent / "labelled.csv", 12, 1)
    assert extract.command(["--test", str(labelled), "--run", str(trained)]) == 0
    argv = ["--run", str(trained), "--views", "style,lexical", "--folds", "3"]
    assert train_meta.command([*argv, "--trials", "0", "--bags", "1"]) == 0
    folder = shutil.copytree(trained, shared_folder / "run")
    (folder / ".lock").unlink()
    (folder / "submission.csv").unlink()
    return RunDir(folder)


def test_every_command_that_predicts_writes_only_what_is_named(run, shared_folder, capsys):
    out = shared_folder / "out"
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    of_run = ["--run", str(run.folder), "--out"]
    with read_only(run.folder):
        assert submit.command([*of_run, str(out / "s.csv"), "--explain"]) == 0
        assert evaluate.command([*of_run, str(out / "e.json")]) == 0
        probabilities = Tiebreak.load(run.folder).predict_proba(*PAIR)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before
    assert probabilities.sum() == pytest.approx(1)
    assert len(pd.read_csv(out / "s.csv")) == 12
    assert len(pd.read_parquet(out / "s.explanations.parquet")) == 12
    assert str(out / "e.json") in capsys.readouterr().out
    assert not (run.folder / ".lock").exists()


@pytest.mark.parametrize("command", [submit, evaluate])
def test_without_a_name_the_line_says_which_option(command, run, capsys):
    with read_only(run.folder):
        assert command.command(["--run", str(run.folder)]) == 2
    assert "--out FILE" in error_line(capsys, Code.OUTPUT_INVALID)


def test_a_command_that_changes_the_run_says_what_suffices(run, shared_folder, capsys):
    test = shutil.copy(lmsys(shared_folder / "test.csv", 5, 2), shared_folder / "out")
    with read_only(run.folder):
        argv = ["--test", str(test), "--run", str(run.folder), "--no-language-model"]
        assert extract.command(argv) == 2
    assert "run.json suffice" in error_line(capsys, Code.RUN_READ_ONLY)


def test_model_and_run_json_suffice(run, shared_folder, tmp_path, capsys):
    part = shared_folder / "part"
    part.mkdir()
    shutil.copytree(run.model, part / "model")
    shutil.copy(run.record, part)
    whole = Tiebreak.load(run.folder).predict_proba(*PAIR)
    with read_only(part):
        assert np.array_equal(Tiebreak.load(part).predict_proba(*PAIR), whole)
    # A copy that can be written also takes new test battles.
    copy = shutil.copytree(part, tmp_path / "copy")
    test = lmsys(tmp_path / "test.csv", 12, 1, labelled=False)
    argv = ["--test", str(test), "--run", str(copy), "--no-language-model"]
    assert extract.command(argv) == 0
    assert f"next: python pipelines/submit.py --run {copy}" in capsys.readouterr().out
    assert submit.command(["--run", str(copy)]) == 0
    assert submit.command(["--run", str(run.folder)]) == 0
    assert (copy / "submission.csv").read_bytes() == run.submission.read_bytes()
