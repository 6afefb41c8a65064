"""Stage one: turn battles into evidence.

    python pipelines/extract.py                                            the sample
    python pipelines/extract.py --train train.csv --test test.csv --run runs/lmsys
    python pipelines/extract.py --test more.csv --run runs/lmsys           another test set
    python pipelines/extract.py --train train.csv --backbone gemma2-9b --dry-run
    python pipelines/extract.py --train shards more.csv.gz 'old/train-*.parquet'
    python pipelines/extract.py --train train.csv --no-language-model      signals alone: minutes
    python pipelines/extract.py --run runs/lmsys --engine ray --ray-address host:6379

FILE is a table in any public layout: CSV with any separator, JSON, parquet, Arrow or Excel, packed
or not; a local path, a URL that fsspec opens, or - for the standard input. Several files, a glob or
a folder of shards are one table.
"""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import ExitStack
from pathlib import Path

if __name__ == "__main__":
    import runpy

    runpy.run_path(str(Path(__file__).with_name("_script.py")))

from arena import sample
from arena.battle_rows import ReadOptions
from arena.local_copy import STDIN
from arena.reader import BattleFile, open_battles
from common.errors import Code, UserError
from common.run_dir import SPLITS, RunDir
from embeddings.backbone.quantization import DTYPE_BYTES, QUANTIZATIONS
from embeddings.backbone.runtime import AUTO, ENGINES, TORCH
from pipelines import cli
from tiebreak.extraction import extract_run, plan_run
from tiebreak.extraction_options import RAY, ExtractionOptions
from tiebreak.next_step import next_step
from tiebreak.run_record import DEFAULT_BACKBONE

STDIN_NAMES = (STDIN, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


def sources(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """What is named by split; the sample where nothing is.

    Raises:
        UserError: both splits are to come from the standard input.
    """
    named = {s: getattr(arguments, s) for s in SPLITS if getattr(arguments, s)}
    if all(set(STDIN_NAMES) & set(named.get(split, [])) for split in SPLITS):
        raise UserError(
            Code.OPTIONS_CONFLICT,
            "--train and --test are both the standard input, which is one file. Name another file "
            "for one of them.",
        )
    return named or {"train": [str(sample.TRAIN)], "test": [str(sample.TEST)]}


def run_of(arguments: argparse.Namespace, named: dict[str, list[str]]) -> RunDir:
    """The run directory: the one named, else runs/<name of the first file or folder>."""
    if arguments.run:
        return RunDir(Path(arguments.run))
    if not (arguments.train or arguments.test):
        return RunDir(Path("runs/sample"))
    first = next(iter(named.values()))[0]
    if first == STDIN or first.startswith("/dev/"):
        return RunDir(Path("runs/stdin"))
    # Of a glob, what stands before the pattern.
    parts = (re.split(r"[.*?\[]", part)[0].rstrip("-_") for part in reversed(first.split("/")))
    return RunDir(Path("runs") / next(filter(None, parts), "unnamed"))


def main(arguments: argparse.Namespace) -> None:
    """Read, validate, extract; or print what that would take."""
    named = sources(arguments)
    run = run_of(arguments, named)
    options = ExtractionOptions(
        arguments.backbone,
        arguments.quantization,
        arguments.dtype,
        arguments.state_bits,
        arguments.unconditional_tokens,
        arguments.engine,
        arguments.ray_address or "",
        arguments.actors or 0,
        not arguments.no_language_model,
    )
    reading = ReadOptions(arguments.limit, arguments.vote_values, arguments.allow_rejects)
    with ExitStack() as stack:
        files: dict[str, BattleFile] = {
            split: stack.enter_context(
                open_battles(paths, labelled=split == "train", options=reading)
            )
            for split, paths in named.items()
        }
        if arguments.dry_run:
            for line in plan_run(run, files, options):
                print(line, flush=True)
            return
        extract_run(run, files, options, "extract.py")
    cli.print_next(f"evidence in {run.views}", next_step(run))


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    for split, content in (("train", "with votes"), ("test", "to predict")):
        p.add_argument(
            f"--{split}", metavar="FILE", nargs="+", action="extend", help=f"battles {content}"
        )
    p.add_argument("--run", metavar="DIR", help="run directory (runs/<name of the first FILE>)")
    p.add_argument(
        "--backbone",
        metavar="B",
        help=f"name in configs/, YAML file or model folder (the run's own, or {DEFAULT_BACKBONE})",
    )
    p.add_argument("--quantization", choices=tuple(QUANTIZATIONS), help="overrides the YAML")
    p.add_argument("--dtype", choices=tuple(DTYPE_BYTES), help="overrides the YAML")
    p.add_argument(
        "--state-bits",
        type=int,
        choices=(8, 16),
        help="bits of a stored value of the hidden states; 8: half the disk; overrides the YAML",
    )
    p.add_argument(
        "--unconditional-tokens",
        type=cli.count,
        metavar="N",
        help="first tokens of an answer that are read a second time, without its prompt; 0: none, "
        "and less to read; overrides the YAML",
    )
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
        "--no-language-model",
        action="store_true",
        help="handcrafted signals alone; a later call without it adds what the model says",
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
    p.add_argument("--limit", type=cli.positive, metavar="N", help="first N rows only")
    p.add_argument("--dry-run", action="store_true", help="print the plan and its cost, do nothing")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
