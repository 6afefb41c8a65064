"""Peak resident memory of what is not the language model, by number of rows.

    python benchmarks/memory.py --rows 10000 100000
    python benchmarks/memory.py --rows 10000 100000 1000000      some hours: --short helps
    python benchmarks/memory.py --stage write look --rows 10000 100000 1000000

Each stage runs in a process of its own at each number of rows, and says its own peak and that of
its largest worker (VmHWM of Linux; ``getrusage`` counts what the parent had, too). The last column
is what a row more cost, against the line above.

* ``read``: a CSV in the LMSYS layout to the canonical table on disk.
* ``pack``: battles on disk to the tokens that the embedded model would read, counted.
* ``features``: battles on disk to the handcrafted view on disk.
* ``write``: hidden states (``--width`` values of float16 an item) to a store.
* ``look``: all of them read by their keys in blocks, through memory maps.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pyarrow as pa
import torch

import features
from arena.battle_table import as_arrow, read_battles_groups
from arena.feature_table import write_feature_tables
from arena.ingest import ingest_file
from arena.reader import open_battles
from benchmarks import lmsys_like
from common.parquet import GROUP, write_groups
from embeddings.backbone.config import load_config
from embeddings.cache.shards import SHARD_ITEMS, ShardStore, ShardWriter, as_keys
from embeddings.frozen.plan import plan

MADE_OF = {"read": "csv", "features": "battles", "pack": "battles", "write": "", "look": "write"}
"""What must be in the folder before a stage, and which step puts it there."""


def keys(first: int, count: int) -> list[bytes]:
    """Content addresses of items."""
    return [hashlib.sha256(b"%d" % i).digest() for i in range(first, first + count)]


def make_csv(folder: Path, rows: int, width: int) -> None:
    """The file of battles."""
    lmsys_like.write_csv(folder / "battles.csv", rows)


def make_battles(folder: Path, rows: int, width: int) -> None:
    """The canonical table, written as it is drawn."""
    write_groups(folder / "battles.parquet", battle_groups(rows))


def battle_groups(rows: int) -> Iterator[pa.Table]:
    """Battles in groups."""
    for first in range(0, rows, GROUP):
        yield as_arrow(lmsys_like.table(min(GROUP, rows - first), first))


def read(folder: Path, rows: int, width: int) -> None:
    """Read, validate, group, write, as extract.py does."""
    with open_battles(str(folder / "battles.csv"), labelled=True) as file:
        ingest_file(file, folder / "read.parquet")


def extract(folder: Path, rows: int, width: int) -> None:
    """The handcrafted view, as extract.py makes it."""
    parts = read_battles_groups(folder / "battles.parquet")
    write_feature_tables(folder / "style.parquet", features.stream(parts, rows))


def pack(folder: Path, rows: int, width: int) -> None:
    """The tokens, window by window, as extract.py --dry-run counts them."""
    counts = plan(read_battles_groups(folder / "battles.parquet"), load_config("smollm2-135m"))
    assert counts.battles == rows


def write(folder: Path, rows: int, width: int) -> None:
    """A store of one vector an item."""
    writer = ShardWriter(folder / "store")
    for first in range(0, rows, SHARD_ITEMS):
        count = min(SHARD_ITEMS, rows - first)
        states = torch.full((count, width), 0.5, dtype=torch.float16)
        writer.add(keys(first, count), {"states": states})


def look(folder: Path, rows: int, width: int) -> None:
    """Every item of the store, in blocks."""
    store = ShardStore(folder / "store")
    for first in range(0, rows, GROUP):
        count = min(GROUP, rows - first)
        states = store.rows(store.require(as_keys(keys(first, count))), "states")
        assert states.shape == (count, width)
        assert np.all(states == 0.5)


STEPS = {
    "csv": make_csv,
    "battles": make_battles,
    "read": read,
    "features": extract,
    "pack": pack,
    "write": write,
    "look": look,
}


def in_a_process(step: str, folder: Path, rows: int, arguments: argparse.Namespace) -> list[float]:
    """Run a step in a process of its own; its peak, its largest worker's (MB), and seconds."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    command += ["--rows", str(rows), "--width", str(arguments.width)]
    command += ["--short"] if arguments.short else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in done.stdout.split()]


def measure(stage: str, arguments: argparse.Namespace) -> None:
    """Print a line for each number of rows."""
    before: tuple[int, float] | None = None
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as name:
            folder = Path(name)
            if MADE_OF[stage]:
                in_a_process(MADE_OF[stage], folder, rows, arguments)
            peak, worker, seconds = in_a_process(stage, folder, rows, arguments)
        growth = ""
        if before and rows != before[0]:
            growth = f"{(peak - before[1]) * 1e6 / (rows - before[0]):9,.0f} bytes a row"
        before = rows, peak
        print(
            f"{stage:9} {rows:9,} rows {peak:8,.0f} MB, a worker {worker:6,.0f} MB "
            f"{seconds:8,.1f} s {growth}",
            flush=True,
        )


def step(arguments: argparse.Namespace) -> None:
    """Do one step here and print what it cost."""
    if arguments.short:
        lmsys_like.ANSWER = lmsys_like.PROMPT = (4.0, 0.8, 400)
    start = time.perf_counter()
    done, workers = threading.Event(), [0.0]

    def watch() -> None:
        while not done.wait(0.5):
            workers.extend(map(peak, children("self")))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        STEPS[arguments.step](arguments.folder, arguments.rows[0], arguments.width)
    finally:
        done.set()
        watcher.join()
    print(peak("self"), max(workers), time.perf_counter() - start)


def peak(process: str) -> float:
    """Peak resident memory of a process, MB; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(s.split()[1]) * 1024 / 1e6 for s in lines if s.startswith("VmHWM")), 0.0)


def children(process: str) -> list[str]:
    """The processes that a process has started and that run."""
    numbers: list[str] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        # A thread may end meanwhile.
        with suppress(OSError):
            numbers += path.read_text().split()
    return numbers


def main() -> None:
    """Measure each stage at each number of rows."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000], help="numbers of rows")
    p.add_argument("--stage", nargs="+", choices=MADE_OF, default=MADE_OF, help="stages (all)")
    p.add_argument("--width", type=int, default=576, help="values of an item of the store (576)")
    p.add_argument("--short", action="store_true", help="texts of some 60 characters")
    p.add_argument("--scratch", type=Path, help="where files are made (the temporary folder)")
    p.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    p.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = p.parse_args()
    if arguments.step:
        step(arguments)
        return
    for stage in arguments.stage:
        measure(stage, arguments)


if __name__ == "__main__":
    main()
