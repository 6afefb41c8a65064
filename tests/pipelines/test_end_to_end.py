"""The README's commands on the sample with the embedded model, each a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from arena import sample
from arena.schema import CLASSES

SMALL = ("--trials", "1", "--bags", "1", "--folds", "3")
ROOT = Path(__file__).resolve().parents[2]


def run(command, *argv, cwd):
    """Run a command away from the clone, so that it can rely on no path set by hand."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "pipelines" / f"{command}.py"), *argv],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_extract_train_submit_evaluate(tmp_path):
    out = run("extract", "--limit", "24", cwd=tmp_path)
    assert "train: 24 rows" in out
    assert "SIMULATED" in run("train_meta", *SMALL, cwd=tmp_path)
    folder = tmp_path / "runs" / "sample"
    assert str(Path("runs/sample/submission.csv")) in run("submit", cwd=tmp_path)
    asked = pd.read_csv(sample.TEST, dtype={"id": str})["id"].tolist()[:24]
    found = pd.read_csv(folder / "submission.csv", dtype={"id": str})
    assert found["id"].tolist() == asked
    assert np.allclose(found[list(CLASSES)].sum(axis=1), 1.0)
    metrics = json.loads((folder / "metrics.json").read_text())
    losses = metrics["log_loss"]
    assert {"style", "hidden", "likelihood", "meta", "bayes"} <= set(losses)
    assert losses["bayes"] < losses["uniform"]
    assert metrics["regret"] == pytest.approx(losses["meta"] - losses["bayes"])
    assert "bayes" in run("evaluate", cwd=tmp_path)
