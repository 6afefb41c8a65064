"""Predict the test battles of a run.

    python pipelines/submit.py
    python pipelines/submit.py --run runs/lmsys --out submission.csv
    python pipelines/submit.py --run runs/lmsys --explain
    python pipelines/submit.py --run runs/wsdm --layout wsdm

Writes id,winner_model_a,winner_model_b,winner_tie (--layout wsdm: id,winner) with the ids of the
test file, in its order. A row that was set aside gets the training prior. Of a test file of chosen
/ rejected pairs, which are shown to the model in either order, FILE.chosen.csv beside it says
id,p_chosen,p_rejected,p_tie. With --explain also explanations.parquet in the run directory (of one
that cannot be written FILE.explanations.parquet): the reasons for each prediction by family of
evidence and by view, in log-odds before calibration, and the strongest families in words.

With --out FILE a run that cannot be written predicts as well.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    import runpy

    runpy.run_path(str(Path(__file__).with_name("_script.py")))

from common.files import atomic, check_writable
from common.run_dir import RunDir
from pipelines import cli
from tiebreak.model import Tiebreak
from tiebreak.next_step import next_step
from tiebreak.submission import (
    LAYOUTS,
    chosen_path,
    chosen_table,
    explanations_path,
    submission,
)


def main(arguments: argparse.Namespace) -> None:
    """Predict while nobody changes the run, and write the file."""
    run = RunDir(Path(arguments.run))
    out = Path(arguments.out) if arguments.out else run.submission
    with run.reading("submit.py"):
        model = Tiebreak(run)
        check_writable(out, "Name another file with --out FILE.")
        table, probabilities, dataset = model.predict_split("test")
        if arguments.explain and dataset is not None:
            explanations = explanations_path(run, out)
            with atomic(explanations) as temporary:
                model.reasons(dataset).frame().to_parquet(temporary, index=False)
            print(f"reasons: {explanations}")
        with atomic(out) as temporary:
            submission(table, probabilities, arguments.layout).to_csv(temporary, index=False)
        if run.holds_pairs("test"):
            with atomic(chosen_path(out)) as temporary:
                chosen_table(table, probabilities).to_csv(temporary, index=False)
            print(f"P(chosen) and P(rejected) of the pairs: {chosen_path(out)}")
    aside = int((table["reason"] != "").sum())
    print(f"{len(table):,} rows, {aside:,} of them set aside and given the prior")
    cli.print_next(f"submission: {out}", next_step(run, submitted=True))


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument("--out", metavar="FILE", help="where to write (submission.csv of the run)")
    p.add_argument(
        "--layout", choices=LAYOUTS, default=LAYOUTS[0], help="columns; wsdm: id and winner"
    )
    p.add_argument(
        "--explain",
        action="store_true",
        help="write the reasons for each prediction, in log-odds before calibration",
    )
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
