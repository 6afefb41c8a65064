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
from pathlib import Path

if __name__ == "__main__":
    import runpy

    runpy.run_path(str(Path(__file__).with_name("_script.py")))

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from common.run_dir import RunDir
from meta import audit
from meta.report.figures import costs, table
from meta.stack.nested_cv import Settings, part_scored
from pipelines import cli
from tiebreak.next_step import next_step
from tiebreak.training import train_run


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
    """Train, and print the metrics."""
    run = RunDir(Path(arguments.run))
    settings = Settings(
        arguments.folds, arguments.trials, arguments.bags, arguments.forest, arguments.storage
    )
    metrics = train_run(run, settings, views=arguments.views, sources=arguments.by)
    if run.is_sample("train"):
        print("the votes of the sample are SIMULATED: these figures say nothing about people")
    print(table(metrics))
    if part := part_scored(metrics):
        print(part)
    print("\n".join(audit.failures([audit.Finding(**f) for f in metrics["audit"]])))
    print(costs(metrics))
    print(f"report: {run.report}")
    cli.print_next(f"model in {run.model}", next_step(run))


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument(
        "--views", metavar="A,B", type=cli.names, help="views to fuse (all that the run has)"
    )
    cli.add_second_stage(p, trials=20, bags=3)
    p.add_argument(
        "--storage",
        metavar="URL",
        type=database,
        help="database that several processes tune in, such as postgresql+psycopg://host/tiebreak "
        "(a SQLite file in the run)",
    )
    p.add_argument("--by", metavar="FILE", help="source of each battle: a CSV, id and one more")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
