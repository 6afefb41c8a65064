"""Score a run's model on test battles whose votes are known.

    python pipelines/evaluate.py                                   the sample, simulated votes
    python pipelines/evaluate.py --run runs/votes --labels votes-test-labels.csv
    python pipelines/evaluate.py --run runs/votes --labels labels.csv --by sources.csv

LABELS (CSV, parquet or JSONL) has the column id and the votes: winner_model_a, winner_model_b,
winner_tie, or one column winner or label with a / b / tie. BY has the column id and one more, whose
values name the sources. Prints the nulls, each view alone and the whole, of all battles and of each
source, and whether they share prompts or answers with the training battles (audit C09); writes
evaluation.json, which the run's report.html shows. Nothing here trains, tunes or calibrates.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np

from arena import sample
from arena.battle_table import read_battles_table
from arena.predictions_file import read_votes
from arena.source_column import read_sources
from common.errors import Code, UserError
from common.files import write_json
from common.run_dir import RunDir
from meta import audit
from meta.metrics.slices import name_slices, score_families
from meta.report.figures import BAYES, figures, table
from meta.report.page import write_report
from meta.stack import model_io as bundle
from meta.stack.dataset import read_dataset

SMALLEST_SOURCE = 30
from pipelines import cli


def by_source(
    predictions: dict[str, np.ndarray], labels: np.ndarray, groups: np.ndarray, names: np.ndarray
) -> dict[str, Any]:
    """Figures of each source that is large enough to say something."""
    found = {}
    for name in sorted(set(names)):
        rows = names == name
        if rows.sum() >= SMALLEST_SOURCE:
            found[str(name)] = figures(
                {k: p[rows] for k, p in predictions.items()}, labels[rows], groups[rows]
            )
    return found


def main(arguments: argparse.Namespace) -> None:
    """Do it while nobody changes the run."""
    run = RunDir(Path(arguments.run))
    with run.reading("evaluate.py"):
        evaluate(run, arguments)


def evaluate(run: RunDir, arguments: argparse.Namespace) -> None:
    """Predict with every fusion of the bundle, score, print."""
    stage = bundle.load(run.model)
    evidence = read_dataset(run, "test", stage.views)
    battles = evidence.battles
    labels_file = arguments.labels
    if labels_file is None:
        if not run.is_sample("test"):
            raise UserError(
                Code.VOTES_MISSING,
                f"The votes of {run.folder}'s test battles are needed. Give --labels FILE.",
            )
        labels_file = str(sample.TRUTH)
    labels = read_votes(labels_file, battles["id"].tolist())
    known = labels >= 0
    if not known.any():
        raise UserError(
            Code.VOTES_MISSING, f"{labels_file} has no vote of any test battle of {run.folder}."
        )
    predictions = stage.baselines.predict(battles)
    views = evidence.unseen(stage.base_models)
    for name, fusion in stage.stackers.items():
        design = fusion.design(views)
        predictions[name] = fusion.predict(design)
        if name == "meta":
            predictions["meta_uncalibrated"] = fusion.uncalibrated(design)
    predictions = {k: p[known] for k, p in predictions.items()}
    labels, groups = labels[known], battles["group"].to_numpy()[known]
    if run.is_sample("test"):
        predictions[BAYES] = sample.truth(battles["id"])[known]
    found = figures(predictions, labels, groups)
    found["model"] = {"hash": run.model_hash()}
    if run.metrics.exists():
        trained = run.read_result(run.metrics, "train_meta.py").get("model", {})
        if trained.get("hash") == found["model"]["hash"]:
            found["model"] = trained
    source = read_sources(arguments.by, battles["id"][known]) if arguments.by else None
    named = name_slices(battles[known].reset_index(drop=True), labels, source)
    found["slices"] = score_families(predictions["meta"], labels, groups, named)
    if run.is_sample("test"):
        print("the votes of the sample are SIMULATED: these figures say nothing about people")
    print(table(found))
    if source is not None:
        found["sources"] = by_source(predictions, labels, groups, source)
        for name, part in found["sources"].items():
            print(f"\n{name}\n{table(part)}")
    if run.battles("train").exists():
        # The test set may have come after the training, and its audit.
        training = read_battles_table(run.battles("train"))
        leak = audit.prompt_leak(training[training["reason"] == ""], battles[known])
        print("\n".join(audit.failures([leak])))
        found["audit"] = [asdict(leak)]
    write_json(run.evaluation, run.provenance() | found)
    if run.predictions.exists():
        write_report(run)
        print(f"report: {run.report}")


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument("--labels", metavar="FILE", help="votes of the test battles (the sample's own)")
    p.add_argument("--by", metavar="FILE", help="sources to score one by one")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
