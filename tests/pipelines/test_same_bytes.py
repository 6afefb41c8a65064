"""A second run of all commands, in another process and folder, leaves the same bytes.

What may differ, and why: ``seconds`` and ``peak_mib`` in run.json and metrics.json are what this
run took; study.db is SQLite with the times of its trials, of which parameters and values must
agree; .lock names the last process that held it. run.json also names the input files, and
report.html has the folder's name as its title: both are the same here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from tests.helpers.battle_files import lmsys
from tests.helpers.tiny import save_tiny_model

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = """
import sys
from pipelines import evaluate, extract, report, submit, train_meta
train, test, model, run = sys.argv[1:]
files = ["--train", train, "--test", test, "--backbone", model]
assert extract.command([*files, "--run", run]) == 0
small = ["--trials", "2", "--bags", "1", "--folds", "3"]
assert train_meta.command(["--run", run, *small]) == 0
assert submit.command(["--run", run, "--explain"]) == 0
assert evaluate.command(["--run", run, "--labels", test]) == 0
assert report.command(["--run", run]) == 0
"""
TIMES = ("seconds", "peak_mib")
TIMED = ("run.json", "metrics.json")


def contents(run):
    """Bytes of every file of a run; of those that hold times, what is left without them."""
    found = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file() and p.name != ".lock"):
        name = path.relative_to(run).as_posix()
        if name in TIMED:
            found[name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in TIMES}
        elif name == "study.db":
            found[name] = studies(path)
        else:
            found[name] = path.read_bytes()
    return found


def studies(path):
    """Parameters and value of each trial of each study."""
    storage = f"sqlite:///{path}"
    return {
        name: [
            (t.state.name, t.params, t.value, t.intermediate_values)
            for t in optuna.load_study(study_name=name, storage=storage).trials
        ]
        for name in optuna.get_all_study_names(storage)
    }


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    train, test = lmsys(tmp_path / "train.csv", 40), lmsys(tmp_path / "test.csv", 12, 1)
    runs = tmp_path / "one" / "run", tmp_path / "another" / "run"
    waiting = [
        subprocess.Popen(
            [sys.executable, "-c", COMMANDS, *map(str, (train, test, model, run))],
            # Another order of sets and of the threads' turns.
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(seed)},
            stdout=subprocess.DEVNULL,
        )
        for seed, run in enumerate(runs)
    ]
    assert [process.wait() for process in waiting] == [0, 0]
    one, another = map(contents, runs)
    assert list(one) == list(another)
    assert [name for name in one if one[name] != another[name]] == []
    assert {"submission.csv", "report.html", "metrics.json", "evaluation.json"} <= set(one)
    assert all(len(trials) == 2 for trials in one["study.db"].values())
