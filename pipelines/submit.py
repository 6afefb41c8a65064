"""Predict the test battles of a run.

    python pipelines/submit.py
    python pipelines/submit.py --run runs/lmsys --out submission.csv
    python pipelines/submit.py --run runs/lmsys --explain

Writes id,winner_model_a,winner_model_b,winner_tie in the test file's order. A row that was set
aside gets the training prior. With --explain also explanations.parquet in the run directory: the
reasons for each prediction by family of evidence and by view, in log-odds before calibration, and
the strongest families in words.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd

from arena.battle_table import read_battles_table
from arena.schema import CLASSES
from common.files import atomic
from common.run_dir import RunDir
from meta.explain import explain
from meta.stack import model_io as bundle
from meta.stack.dataset import read_dataset
from pipelines import cli


def main(arguments: argparse.Namespace) -> None:
    """Do it while nobody changes the run."""
    run = RunDir(Path(arguments.run))
    with run.reading("submit.py"):
        submit(run, arguments)


def submit(run: RunDir, arguments: argparse.Namespace) -> None:
    """Load the model, score the test views, write the file."""
    stage = bundle.load(run.model)
    table = read_battles_table(run.require_battles("test"))
    probabilities = np.tile(stage.baselines.shares, (len(table), 1))
    sound = (table["reason"] == "").to_numpy()
    if sound.any():
        fusion = stage.stackers["meta"]
        views = read_dataset(run, "test", stage.views).unseen(stage.base_models)
        design = fusion.design(views)
        probabilities[sound] = fusion.predict(design)
        if arguments.explain:
            reasons = explain(fusion.boosters, design, fusion.views)
            with atomic(run.explanations) as temporary:
                reasons.frame().to_parquet(temporary, index=False)
            print(f"reasons: {run.explanations}")
    submission = pd.DataFrame(probabilities, columns=list(CLASSES))
    submission.insert(0, "id", table["id"].to_numpy())
    out = Path(arguments.out) if arguments.out else run.submission
    with atomic(out) as temporary:
        submission.to_csv(temporary, index=False)
    print(f"{len(table):,} rows, {int((~sound).sum()):,} of them set aside and given the prior")
    print(f"submission: {out}")


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument("--out", metavar="FILE", help="where to write (submission.csv of the run)")
    p.add_argument(
        "--explain",
        action="store_true",
        help="write the reasons for each prediction, in log-odds before calibration",
    )
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
