"""train_meta.py --storage: commands on copies of a run share the trials and end with one model."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipelines import extract, train_meta
from tests.helpers.battle_files import lmsys
from tests.helpers.tiny import save_tiny_model

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--trials", "4", "--folds", "3", "--bags", "1")


def test_a_password_is_neither_shown_nor_told(tmp_path, capsys):
    secret = "postgresql+psycopg://me:hunter2@127.0.0.1:1/db"
    assert train_meta.command(["--run", str(tmp_path), "--storage", secret]) == 2
    shown = capsys.readouterr()
    assert "me:***@127.0.0.1" in shown.out
    with pytest.raises(SystemExit):
        train_meta.command(["--storage", "hunter2"])
    assert "no URL of a database" in (told := capsys.readouterr()).err
    assert "hunter2" not in shown.out + shown.err + told.out + told.err


@pytest.mark.exhaustive
def test_commands_on_copies_of_a_run_end_with_the_same_model(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    train = lmsys(tmp_path / "train.csv", 150)
    first, second = tmp_path / "first", tmp_path / "second"
    asked = ["--train", str(train), "--run", str(first), "--backbone", str(model)]
    assert extract.command(asked) == 0
    shutil.copytree(first, second)
    studies = tmp_path / "studies.db"
    commands = [
        subprocess.Popen(
            [
                *(sys.executable, ROOT / "pipelines" / "train_meta.py", "--run", run, *SMALL),
                *("--storage", f"sqlite:///{studies}"),
            ]
        )
        for run in (first, second)
    ]
    assert [command.wait() for command in commands] == [0, 0]
    bundles = [(run / "model" / "bundle.json").read_bytes() for run in (first, second)]
    assert bundles[0] == bundles[1]
    assert not (first / "study.db").exists()
    with closing(sqlite3.connect(studies)) as connection:
        done = connection.execute(
            "SELECT study_id, COUNT(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED') "
            "GROUP BY study_id"
        ).fetchall()
    # Three outer folds and the final model.
    assert [trials for _, trials in done] == [4, 4, 4, 4]
