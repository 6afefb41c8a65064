"""Reading and validating a CSV as large as LMSYS train.csv, against pandas and json alone.

    python benchmarks/reading.py
    python benchmarks/reading.py --quick
    python benchmarks/reading.py --file train.csv

Ours gives turns as lists, checks every row, hashes contents and forms prompt groups; the rival
(``pandas.read_csv`` and ``json.loads`` of the three columns of texts) checks nothing. Both run in
turn; printed are medians of seconds, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd

from arena.reader import read_battles
from benchmarks.lmsys_like import ROWS, write_csv

TEXTS = ("prompt", "response_a", "response_b")


def ours(path: Path) -> pd.DataFrame:
    """The canonical table."""
    return read_battles(str(path), labelled=True)


def plainly(path: Path) -> pd.DataFrame:
    """The three columns of texts as lists, nothing checked."""
    table = pd.read_csv(path)
    return table.assign(**{name: table[name].map(json.loads) for name in TEXTS})


def seconds(work: Callable[[Path], pd.DataFrame], path: Path) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work(path)
    return time.perf_counter() - wall, time.process_time() - processor


def compare(path: Path, times: int) -> None:
    """Read in turn, check that both read the same texts, print."""
    mine, theirs = ours(path), plainly(path)
    valid = (mine["reason"] == "").to_numpy()
    for name in TEXTS:
        assert mine[name][valid].tolist() == theirs[name][valid].tolist(), name
    megabytes = path.stat().st_size / 1e6
    print(f"{len(mine):,} rows, {megabytes:.0f} MB, {int((~valid).sum())} set aside", flush=True)
    del mine, theirs
    times_taken = [[seconds(ours, path), seconds(plainly, path)] for _ in range(times)]
    for i, what in enumerate(("wall", "processor")):
        a, b = np.median(np.array(times_taken)[:, :, i], axis=0)
        print(f"{what:9} ours {a:6.2f} s   pandas and json {b:6.2f} s   {a / b:4.2f} times")


def main() -> None:
    """Compare on the file given, else on a synthetic one."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--file", type=Path, help="a CSV in the LMSYS layout (a synthetic one)")
    p.add_argument("--quick", action="store_true", help="8,000 rows")
    p.add_argument("--times", type=int, default=5, help="readings each (5)")
    arguments = p.parse_args()
    if arguments.file:
        compare(arguments.file, arguments.times)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lmsys-like.csv"
        write_csv(path, 8_000 if arguments.quick else ROWS)
        compare(path, arguments.times)


if __name__ == "__main__":
    main()
