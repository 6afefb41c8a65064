"""Score a run's model on test battles whose votes are known.

    python pipelines/evaluate.py                                   the sample, simulated votes
    python pipelines/evaluate.py --run runs/votes                  votes that the test file has
    python pipelines/evaluate.py --run runs/votes --labels votes-test-labels.csv
    python pipelines/evaluate.py --run runs/votes --labels labels.csv --by sources.csv

Without --labels the votes are those in the test file itself. LABELS (CSV, parquet or JSONL) has the
ids of the test file and the votes: winner_model_a, winner_model_b, winner_tie, or one column winner
or label with a / b / tie. BY has the column id and one more, whose values name the sources. Prints
the nulls, each view alone and the whole, of all battles and of each source, and whether they share
prompts or answers with the training battles (audit C09); writes evaluation.json, which the run's
report.html shows; with --out FILE writes that and nothing into the run. Of a test file of chosen /
rejected pairs it also prints how often the chosen answer is preferred, by source and as the mean of
the sources, as RewardBench does, and how often over all rejected ones where an id has several rows.
All battles count alike, whatever their weights. Nothing here trains, tunes or calibrates.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    import runpy

    runpy.run_path(str(Path(__file__).with_name("_script.py")))

from common.run_dir import RunDir
from meta import audit
from meta.report import pairs
from meta.report.figures import table
from pipelines import cli
from tiebreak.evaluation import evaluate_run


def main(arguments: argparse.Namespace) -> None:
    """Evaluate, and print the metrics."""
    run = RunDir(Path(arguments.run))
    out = Path(arguments.out) if arguments.out else None
    metrics = evaluate_run(run, arguments.labels, arguments.by, out)
    if run.is_sample("test"):
        print("the votes of the sample are SIMULATED: these figures say nothing about people")
    votes = metrics["votes"]
    print(
        f"votes of {votes['origin']}: {votes['scored']:,} battles scored, "
        f"{votes['without_vote']:,} without a vote, {votes['set_aside']:,} set aside"
    )
    print(table(metrics))
    if "pairs" in metrics:
        print("\n".join(pairs.lines(metrics["pairs"])))
    for name, part in metrics.get("sources", {}).items():
        print(f"\n{name}\n{table(part)}")
    if "audit" in metrics:
        print("\n".join(audit.failures([audit.Finding(**f) for f in metrics["audit"]])))
    if out is not None:
        print(f"evaluation: {out}")
    elif run.predictions.exists():
        print(f"report: {run.report}")


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument("--labels", metavar="FILE", help="votes of the test battles (their file's own)")
    p.add_argument("--by", metavar="FILE", help="sources to score one by one")
    p.add_argument("--out", metavar="FILE", help="where to write (evaluation.json of the run)")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
