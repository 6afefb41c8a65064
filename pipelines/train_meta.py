"""Stage two: fuse the evidence of a run into three calibrated probabilities.

    python pipelines/train_meta.py
    python pipelines/train_meta.py --run runs/lmsys --trials 100
    python pipelines/train_meta.py --run runs/lmsys --storage postgresql+psycopg://host/tiebreak

Prints and writes figures by nested cross-validation over prompt groups (metrics.json, and the
predictions they are of, predictions.parquet), trains the final model on all rows (model/), prints
the checks of the audit that fail, and shows all of it as one page (report.html). Ctrl-C is safe:
finished Optuna trials are kept.

With --storage any number of processes, each with its own copy of the run, share the trials.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from arena import sample
from arena.feature_table import FeatureTable
from arena.source_column import read_sources
from common.errors import UserError
from common.files import atomic, write_json
from common.progress import Progress
from common.run_dir import RunDir
from meta import audit
from meta.audit.exchange import exchange_gap
from meta.metrics.slices import score_families
from meta.report.figures import BAYES, figures, table
from meta.report.mistakes import confident_mistakes, importance, reasons_unseen, some_rows
from meta.report.page import write_report
from meta.stack import model_io as bundle
from meta.stack.dataset import Dataset, labels_of, read_dataset, without_seen
from meta.stack.nested_cv import (
    CrossValidation,
    Scored,
    Settings,
    final,
    folds_for,
    nested,
    outer_folds,
    part_scored,
)
from meta.stack.predictions import Predictions
from meta.stack.stacker import sets_of_views
from meta.stack.trained_model import TrainedModel
from meta.stack.tuning import set_aside_damaged
from pipelines import cli


def test_rows(run: RunDir, stage: TrainedModel) -> tuple[pd.DataFrame | None, FeatureTable | None]:
    """The run's test battles and their design matrix; none where they are not fit to be scored."""
    if not run.battles("test").exists():
        return None, None
    try:
        test = read_dataset(run, "test", stage.views)
        if test.battles.empty:
            return None, None
        return test.battles, stage.stackers["meta"].design(test.unseen(stage.base_models))
    except UserError as error:
        print(f"the audit leaves out the test battles: {error}", file=sys.stderr)
        return None, None


def audited(
    run: RunDir,
    evidence: Dataset,
    folds: np.ndarray,
    scored: Scored,
    stage: TrainedModel,
    source: np.ndarray | None,
) -> dict[str, Any]:
    """The audit's findings and the figures of every slice, for metrics.json."""
    test_battles, test_design = test_rows(run, stage)
    case = audit.AuditContext(
        evidence.battles,
        labels_of(evidence.battles),
        scored.rows,
        scored.probabilities,
        scored.design,
        scored.swap_gap,
        test_battles,
        test_design,
        one_order=scored.one_order,
        folds=folds,
        kinds=evidence.kinds,
        source=source,
    )
    return {
        "audit": [asdict(finding) for finding in audit.run(case)],
        "slices": score_families(case.meta, case.votes, case.groups, case.slices),
    }


def explained(run: RunDir, evidence: Dataset, folds: np.ndarray, scored: Scored) -> dict[str, Any]:
    """Write the reasons that the report shows; the importance of each family for metrics.json."""
    labels = labels_of(evidence.battles)[scored.rows]
    some = some_rows(len(labels))
    rows = np.union1d(some, confident_mistakes(scored.probabilities["meta"], labels))
    fold = folds[scored.rows[rows]]
    reasons = reasons_unseen(scored.stackers, scored.design.take(rows), fold)
    with atomic(run.reasons) as temporary:
        reasons.to_parquet(temporary, index=False)
    return {"importance": importance(reasons[np.isin(rows, some)])}


def database(text: str) -> URL:
    """The argument --storage; as text it shows no password."""
    try:
        return make_url(text)
    except ArgumentError:
        # The text may hold a password.
        raise argparse.ArgumentTypeError(
            "no URL of a database, such as postgresql+psycopg://user@host/tiebreak or "
            "sqlite:////shared/tiebreak.db"
        ) from None


def main(arguments: argparse.Namespace) -> None:
    """Train, with nobody else at work on the run."""
    run = RunDir(Path(arguments.run))
    with run.changing("train_meta.py"):
        train(run, arguments)


def train(run: RunDir, arguments: argparse.Namespace) -> None:
    """Score honestly, train on everything, save."""
    settings = Settings(arguments.folds, arguments.trials, arguments.bags, arguments.storage)
    set_aside_damaged(run.study)
    start = time.monotonic()
    read = read_dataset(run, "train", arguments.views)
    evidence = without_seen(read)
    if len(evidence.battles) < len(read.battles):
        print(
            f"{len(read.battles) - len(evidence.battles):,} battles taught the language model: "
            "the second stage learns from the others"
        )
    labels, battles = labels_of(evidence.battles), evidence.battles
    source = read_sources(arguments.by, battles["id"]) if arguments.by else None
    folds = folds_for(evidence, settings.folds)
    print(
        f"{len(battles):,} battles of {battles['group'].nunique():,} prompt groups; "
        f"views: {', '.join(evidence.names)}"
    )
    seconds = {"read": time.monotonic() - start}
    steps = len(outer_folds(folds)) + 1
    total = steps * (settings.trials + len(sets_of_views(evidence.names)))
    with Progress("second stage", total, "trials and models") as progress:
        start = time.monotonic()
        cv = CrossValidation(evidence, folds, run, progress.update)
        scored = nested(cv, settings)
        seconds["nested"] = time.monotonic() - start
        start = time.monotonic()
        stage = final(cv, settings)
        seconds["final"] = time.monotonic() - start
    exchanged = exchange_gap(stage.stackers["meta"], battles.iloc[scored.rows], scored.design)
    scored = replace(scored, swap_gap=max(scored.swap_gap, exchanged))
    groups = battles["group"].to_numpy()[scored.rows]
    probabilities = dict(scored.probabilities)
    simulated = run.is_sample("train")
    if simulated:
        probabilities[BAYES] = sample.truth(battles["id"])[scored.rows]
    found = figures(probabilities, labels[scored.rows], groups)
    found["swap_gap"] = scored.swap_gap
    found["outer_folds"] = {"scored": list(scored.stackers), "of": len(np.unique(folds))}
    meta = stage.stackers["meta"]
    found["model"] = {
        "params": meta.params,
        "calibrator": meta.calibrator.name,
        "calibration": meta.calibration,
        "folds": settings.folds,
        "trials": settings.trials,
        "bags": settings.bags,
    }
    found["seconds"] = {**run.read_record().get("seconds", {}), **seconds}
    found["seconds"] = {k: round(v, 3) for k, v in found["seconds"].items()}
    bundle.save(stage, run.model)
    found["model"]["hash"] = run.model_hash()
    found |= audited(run, evidence, folds, scored, stage, source)
    found |= explained(run, evidence, folds, scored)
    ids = battles["id"].iloc[scored.rows].tolist()
    Predictions(ids, groups, labels[scored.rows], probabilities).write(run.predictions)
    write_json(run.metrics, found)
    write_report(run)
    if simulated:
        print("the votes of the sample are SIMULATED: these figures say nothing about people")
    print(table(found))
    if part := part_scored(found):
        print(part)
    print("\n".join(audit.failures([audit.Finding(**f) for f in found["audit"]])))
    print(f"report: {run.report}")
    print(f"model in {run.model}; next: python pipelines/submit.py --run {run.folder}")


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument(
        "--views", metavar="A,B", type=cli.names, help="views to fuse (all that the run has)"
    )
    p.add_argument("--trials", type=int, default=20, metavar="N", help="Optuna trials a study")
    p.add_argument(
        "--storage",
        metavar="URL",
        type=database,
        help="database that several processes tune in, such as postgresql+psycopg://host/tiebreak "
        "(a SQLite file in the run)",
    )
    p.add_argument("--folds", type=cli.folds, default=5, metavar="K", help="folds of prompt groups")
    p.add_argument("--bags", type=cli.positive, default=3, metavar="S", help="seeds a fold")
    p.add_argument("--by", metavar="FILE", help="source of each battle: a CSV, id and one more")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
