"""The check of a machine with a card, in at most eight minutes: is what a GPU computes right?

    python benchmarks/cuda_check.py                         with a card; without one its stand-in
    python benchmarks/cuda_check.py --device cpu            the stand-in: the same code, tiny models
    python benchmarks/cuda_check.py --only 3,5 --out found  some points

Nothing is downloaded: random models of Gemma-2-9B's, Llama-3-8B's and Qwen2-1.5B's widths with four
layers are made on the spot (8 GB, on the RAM disk where it has room). Every point has a limit; what
time does not allow is reported as not reached, and what needs a card or a library that is not here
as not run. Exit code 1: a point failed. The report goes to the screen, and as report.json and
report.txt into a folder, beside log.txt, which has what the commands and libraries printed.

On a CPU the figures of time and memory say nothing, and no kernel of a card has run.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

from common.errors import Code, UserError
from pipelines import cli

LIMIT = 480.0
"""Seconds that all points may take."""

ON_A_CPU = 4
"""Times as long as on a card: other programs use its cores, too."""

GRACE = 60.0
"""Seconds after which a process that hangs in a library is ended."""

POINTS = (
    (0, "versions, cards, room", 15, "loading:machine"),
    (1, "models are built", 90, "loading:build"),
    (2, "loading: place, dtype, head, memory", 80, "loading:load"),
    (3, "numbers: batch, float32, padding, CPU", 100, "reading:numbers"),
    (4, "syncs, and how busy the GPU is", 40, "reading:busy"),
    (5, "attention kernels", 30, "reading:kernels"),
    (6, "memory that runs out", 30, "reading:memory"),
    (7, "a judge is trained", 70, "training:training"),
    (8, "a training is stopped and resumed", 40, "training:resume"),
    (9, "judges predict", 40, "training:judges"),
    (10, "letters of a verdict", 40, "training:verdict"),
    (11, "tokens a second", 80, "speed:speed"),
    (12, "extract, verdict and finetune", 200, "commands:commands"),
    (13, "one model over two cards", 60, "two_cards:two_cards"),
)
"""Number, title, seconds, and where its body is."""


def numbers(text: str) -> list[int]:
    """The argument of ``--only``: numbers of points, parted by commas."""
    found = [int(number) for number in text.split(",")]
    if unknown := set(found) - {number for number, *_ in POINTS}:
        raise argparse.ArgumentTypeError(f"there is no point {min(unknown)}")
    return found


def later(place: str) -> Callable[..., None]:
    """The body of a point, whose libraries are loaded when it begins."""

    def body(*arguments: object) -> None:
        import importlib

        module, name = place.split(":")
        getattr(importlib.import_module(f"benchmarks.cuda.{module}"), name)(*arguments)

    return body


def main(arguments: argparse.Namespace) -> int:
    """Look at the points; the exit code.

    Raises:
        UserError: ``--device cuda``, and PyTorch finds no card.
    """
    # Nothing is needed of the network, and libraries look for this when they are loaded.
    os.environ["HF_HUB_OFFLINE"] = "1"
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    from benchmarks.cuda import bench as benches
    from benchmarks.cuda.report import Point, Report

    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            Code.GPU_UNSUPPORTED,
            f"PyTorch {torch.__version__} finds no GPU. Take --device cpu for the stand-in.",
        )
    folder = benches.work_folder(real=device == "cuda")
    os.environ["TIEBREAK_CACHE"] = str(folder / "cache")
    out = Path(arguments.out)
    chosen = [p for p in POINTS if arguments.only is None or p[0] in arguments.only]
    times = ON_A_CPU if device == "cpu" else 1
    points = [Point(n, title, times * limit, later(place)) for n, title, limit, place in chosen]
    head = {"device": device, "started": time.strftime("%Y-%m-%d %H:%M:%S")}
    report = Report(head, points, out, times * LIMIT)
    out.mkdir(parents=True, exist_ok=True)
    # Ended from outside, it still empties the RAM disk.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    faulthandler.dump_traceback_later(times * LIMIT + GRACE, exit=True)
    try:
        with (out / "log.txt").open("w", encoding="utf-8") as log:
            report.run(benches.Bench(device, folder), benches.obstacle, benches.broken, log)
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGTERM, before)
        for path in (folder / "commands").glob("*.log"):
            shutil.copy(path, out / path.name)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"report in {out}")
    return 1 if report.failed else 0


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv``, run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--device", choices=("cuda", "cpu"), help="the GPU if there is one, else cpu")
    p.add_argument("--out", default="runs/cuda-check", metavar="DIR", help="folder of the report")
    p.add_argument("--only", type=numbers, metavar="N,N", help="points, by number")
    codes: list[int] = []
    failed = cli.run(lambda arguments: codes.append(main(arguments)), p.parse_args(argv))
    return failed or codes[0]


if __name__ == "__main__":
    sys.exit(command())
