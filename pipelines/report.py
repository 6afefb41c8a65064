"""Write a run's report.html again, from what train_meta.py and evaluate.py left there.

    python pipelines/report.py
    python pipelines/report.py --run runs/lmsys

Both commands write it, too; this one only draws. The page opens offline and holds texts of the
battles.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    import runpy

    runpy.run_path(str(Path(__file__).with_name("_script.py")))

from common.run_dir import RunDir
from meta.report.page import write_report
from pipelines import cli


def main(arguments: argparse.Namespace) -> None:
    """Draw the page."""
    run = RunDir(Path(arguments.run))
    write_report(run)
    print(f"report: {run.report}")


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
