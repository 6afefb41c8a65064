"""Stage one: turn battles into evidence.

    python pipelines/extract.py                                            the sample
    python pipelines/extract.py --train train.csv --test test.csv --run runs/lmsys
    python pipelines/extract.py --test more.csv --run runs/lmsys           another test set
    python pipelines/extract.py --train train.csv --backbone gemma2-9b --dry-run
    python pipelines/extract.py --run runs/lmsys --engine ray --ray-address host:6379

FILE is CSV, parquet or JSONL in any public layout, a local path or a URL that fsspec opens.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

from arena import sample
from arena.battle_rows import ReadOptions
from arena.reader import BattleFile, open_battles
from common.run_dir import SPLITS, RunDir
from embeddings.backbone.quantization import QUANTIZATIONS
from embeddings.backbone.runtime import AUTO, ENGINES, TORCH
from pipelines import cli
from tiebreak.extraction import RAY, Extraction, ExtractionOptions, extract_run, plan_lines
from tiebreak.run_record import DEFAULT_BACKBONE


def sources(arguments: argparse.Namespace) -> dict[str, str]:
    """The files to read by split; the sample where none is named."""
    named = {s: getattr(arguments, s) for s in SPLITS if getattr(arguments, s)}
    return named or {"train": str(sample.TRAIN), "test": str(sample.TEST)}


def run_of(arguments: argparse.Namespace, files: dict[str, str]) -> RunDir:
    """The run directory: the one named, else runs/<name of the first file>."""
    if arguments.run:
        return RunDir(Path(arguments.run))
    if not (arguments.train or arguments.test):
        return RunDir(Path("runs/sample"))
    name = next(iter(files.values())).rstrip("/").rsplit("/", 1)[-1].split(".")[0]
    return RunDir(Path("runs") / (name or "unnamed"))


def main(arguments: argparse.Namespace) -> None:
    """Read, validate, extract; or print what that would take."""
    paths = sources(arguments)
    run = run_of(arguments, paths)
    options = ExtractionOptions(
        arguments.backbone,
        arguments.quantization,
        arguments.engine,
        arguments.ray_address or "",
        arguments.actors or 0,
    )
    reading = ReadOptions(arguments.limit, arguments.vote_values, arguments.allow_rejects)
    with ExitStack() as stack:
        files: dict[str, BattleFile] = {
            split: stack.enter_context(
                open_battles(path, labelled=split == "train", options=reading)
            )
            for split, path in paths.items()
        }
        if arguments.dry_run:
            extraction = Extraction.of(options, run.read_record())
            for split, file in files.items():
                print("\n".join(plan_lines(split, file, extraction)))
            return
        extract_run(run, files, options, "extract.py")
    cli.print_next(f"evidence in {run.views}", "train_meta", run.folder)


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--train", metavar="FILE", help="battles with votes")
    p.add_argument("--test", metavar="FILE", help="battles to predict")
    p.add_argument("--run", metavar="DIR", help="run directory (runs/<name of the file>)")
    p.add_argument(
        "--backbone",
        metavar="B",
        help=f"name in configs/, YAML file or model folder (the run's own, or {DEFAULT_BACKBONE})",
    )
    p.add_argument("--quantization", choices=tuple(QUANTIZATIONS), help="overrides the YAML")
    p.add_argument(
        "--engine",
        choices=(*ENGINES, AUTO, RAY),
        help="what runs it; openvino: faster on a CPU, see requirements.txt; auto: openvino where "
        f"it can, else torch; ray: torch, in the actors of a cluster (the run's own, or {TORCH})",
    )
    p.add_argument("--ray-address", metavar="A", help="a Ray cluster, host:port (this machine)")
    p.add_argument(
        "--actors", type=cli.positive, metavar="N", help="models that read (one a GPU or machine)"
    )
    p.add_argument(
        "--vote-values",
        type=cli.names,
        metavar="A,B,TIE",
        help="what the winner column calls A, B and a tie, in this order (public names)",
    )
    p.add_argument(
        "--allow-rejects",
        type=cli.percentage,
        metavar="N%%",
        help="go on although up to N%% of the rows are set aside (none but strays)",
    )
    p.add_argument("--limit", type=cli.positive, metavar="N", help="first N rows of each file only")
    p.add_argument("--dry-run", action="store_true", help="print the plan and its cost, do nothing")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
