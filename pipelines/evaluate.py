"""Score a run's model on test battles whose votes are known.

    python pipelines/evaluate.py                                   the sample, simulated votes
    python pipelines/evaluate.py --run runs/votes --labels votes-test-labels.csv
    python pipelines/evaluate.py --run runs/votes --labels labels.csv --by sources.csv

LABELS has the columns id, winner_model_a, winner_model_b, winner_tie. BY has the column id and one
more, whose values name the slices. Prints the nulls, each view alone and the whole, and writes
evaluation.json. Nothing here trains, tunes or calibrates.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines import cli

if __name__ == "__main__":
    cli.leave_on_interrupt()

import numpy as np
import pandas as pd

from arena import sample
from arena.battle import CLASSES
from arena.errors import UserError
from arena.files import write_json
from arena.run import Run
from meta import bundle
from meta.evidence import read_evidence
from meta.report import add_truth, figures, table

SMALLEST_SLICE = 30


def read_csv(path: str, columns: list[str]) -> pd.DataFrame:
    """A CSV indexed by id that must have ``columns``.

    Raises:
        UserError: it cannot be read, lacks a column or repeats an id.
    """
    try:
        found = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    for column in ["id", *columns]:
        if column not in found:
            raise UserError(f"{path} has no column {column}")
    if found["id"].duplicated().any():
        raise UserError(f"{path} repeats the id {found['id'][found['id'].duplicated()].iloc[0]}")
    return found.set_index("id")


def labels_for(ids: pd.Series, path: str) -> np.ndarray:
    """Labels int (n,) of the battles, -1 where the file has none.

    Raises:
        UserError: a row of the file does not have exactly one winner.
    """
    table = read_csv(path, list(CLASSES))
    votes = table[list(CLASSES)].apply(pd.to_numeric, errors="coerce").to_numpy()
    if not (np.isin(votes, [0, 1]).all() and (votes.sum(axis=1) == 1).all()):
        raise UserError(f"{path}: each row needs a single 1 in its three winner columns")
    labels = pd.Series(votes.argmax(axis=1), index=table.index)
    return labels.reindex(ids).fillna(-1).to_numpy(dtype=np.int64)


def sliced(
    predictions: dict[str, np.ndarray], labels: np.ndarray, groups: np.ndarray, names: np.ndarray
) -> dict[str, Any]:
    """Figures of each slice that is large enough to say something."""
    found = {}
    for name in sorted(set(names)):
        rows = names == name
        if rows.sum() >= SMALLEST_SLICE:
            found[str(name)] = figures(
                {k: p[rows] for k, p in predictions.items()}, labels[rows], groups[rows]
            )
    return found


def main(arguments: argparse.Namespace) -> None:
    """Do it while nobody changes the run."""
    run = Run(Path(arguments.run))
    with run.reading("evaluate.py"):
        evaluate(run, arguments)


def evaluate(run: Run, arguments: argparse.Namespace) -> None:
    """Predict with every fusion of the bundle, score, print."""
    stage = bundle.load(run.model)
    evidence = read_evidence(run, "test", stage.views)
    battles = evidence.battles
    labels_file = arguments.labels
    if labels_file is None:
        if not run.is_sample("test"):
            raise UserError(f"the votes of {run.folder}'s test battles are needed: --labels FILE")
        labels_file = str(sample.TRUTH)
    labels = labels_for(battles["id"], labels_file)
    known = labels >= 0
    if not known.any():
        raise UserError(f"{labels_file} has the vote of no test battle of {run.folder}")
    predictions = stage.nulls.predict(battles)
    views = evidence.unseen(stage.learned)
    for name, fusion in stage.fusions.items():
        design = fusion.design(views)
        predictions[name] = fusion.predict(design)
        if name == "meta":
            predictions["meta_uncalibrated"] = fusion.uncalibrated(design)
    predictions = {k: p[known] for k, p in predictions.items()}
    labels, groups = labels[known], battles["group"].to_numpy()[known]
    found = figures(predictions, labels, groups)
    if run.is_sample("test"):
        add_truth(found, sample.truth(battles["id"])[known], labels)
        print("the votes of the sample are SIMULATED: these figures say nothing about people")
    print(table(found))
    if arguments.by:
        by = read_csv(arguments.by, [])
        if len(by.columns) != 1:
            raise UserError(f"{arguments.by} needs the column id and one more, that names slices")
        names = by.iloc[:, 0].reindex(battles["id"][known]).fillna("").to_numpy(dtype=str)
        found["slices"] = sliced(predictions, labels, groups, names)
        for name, part in found["slices"].items():
            print(f"\n{name}\n{table(part)}")
    write_json(run.folder / "evaluation.json", found)


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument("--labels", metavar="FILE", help="votes of the test battles (the sample's own)")
    p.add_argument("--by", metavar="FILE", help="slices to score one by one")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
