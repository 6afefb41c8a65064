"""A tiny run on which faults are injected: its commands as processes, and what must come out.

Processes are forked from a server that has loaded the libraries, so that a command takes a second
and not ten; they are real processes otherwise, and die real deaths.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

COMMANDS = ("extract", "finetune", "train_meta", "submit", "evaluate", "calibrate")
ROWS, TEST_ROWS = 72, 12
TIMELESS = ("seconds", "peak_mib")
"""Entries of JSON files that say how long something took, and how much memory."""


# Toy work gains nothing from threads, and waits long for them where other processes run.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def context() -> ForkServerContext:
    """Where processes are forked from."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([f"pipelines.{name}" for name in COMMANDS])
    return server


def _child(name: str, argv: Sequence[str], log: str, before: Callable[[], None] | None) -> None:
    os.setsid()
    with Path(log).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(fd, "w", closefd=False), write_through=True) for fd in (1, 2)
    )
    module = __import__(f"pipelines.{name}", fromlist=["command"])
    # What a script does while its libraries load.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if before is not None:
        before()
    os._exit(module.command(list(argv)))


@dataclass
class Started:
    """A command that runs."""

    process: ForkServerProcess
    log: Path

    def wait(self) -> int:
        """Its exit code; a signal's number below zero."""
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode

    def send(self, number: int) -> None:
        """Send a signal to the command and all that it started; nothing where it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    @property
    def output(self) -> str:
        """All that it printed."""
        return self.log.read_text(errors="replace")


class Bench:
    """The undisturbed run, the state before each of its commands, and what each one wrote."""

    def __init__(self, folder: Path) -> None:
        """Make the model and the files; run every command once, undisturbed."""
        import numpy as np
        import pandas as pd

        from arena.schema import CLASSES
        from tests.helpers.battle_files import lmsys
        from tests.helpers.planted import save_shallow_model

        self.folder, self.context, self.count = folder, context(), 0
        folder.mkdir(parents=True, exist_ok=True)
        model = save_shallow_model(folder / "model")
        # Its bits do not depend on what else is in a batch.
        (folder / "exact.yaml").write_text(f"source: {model}\ndtype: float32\n")
        lmsys(folder / "train.csv", ROWS)
        lmsys(folder / "test.csv", TEST_ROWS, 1)
        votes = pd.read_csv(folder / "test.csv", dtype={"id": str})
        votes[["id", *CLASSES]].to_csv(folder / "labels.csv", index=False)
        rng = np.random.default_rng(0)
        forecasts = pd.DataFrame(rng.dirichlet([2, 2, 2], ROWS), columns=["p_a", "p_b", "p_tie"])
        forecasts.insert(0, "id", range(ROWS))
        forecasts.assign(label=rng.integers(0, 3, ROWS)).to_csv(folder / "probs.csv", index=False)
        self.seconds: dict[str, float] = {}
        self.wrote: dict[str, dict[str, bytes]] = {}
        run = folder / "calm"
        run.mkdir()
        for name in COMMANDS:
            shutil.copytree(run, self.before(name))
            start = time.monotonic()
            started = self.start(name, run)
            assert started.wait() == 0, started.output
            self.seconds[name] = time.monotonic() - start
            self.wrote[name] = self.outputs(run)

    def before(self, name: str) -> Path:
        """The run as it was before a command, undisturbed; to be copied."""
        return self.folder / "before" / name

    def argv(self, name: str, run: Path) -> list[str]:
        """The command's arguments."""
        files = {p.name: str(p) for p in self.folder.iterdir()}
        if name == "calibrate":
            return ["--probs", files["probs.csv"], "--out", str(run / "calibrated.csv")]
        return {
            "extract": [
                *("--train", files["train.csv"], "--test", files["test.csv"]),
                *("--backbone", files["exact.yaml"]),
            ],
            "finetune": [
                *("--folds", "2", "--rank", "4", "--max-tokens", "256", "--batch", "8"),
                *("--lr", "1e-3", "--checkpoint-steps", "2", "--top-layers", "1"),
            ],
            "train_meta": ["--trials", "2", "--bags", "1", "--folds", "3"],
            "submit": ["--explain"],
            "evaluate": ["--labels", files["labels.csv"]],
        }[name] + ["--run", str(run)]

    def start(self, name: str, run: Path, before: Callable[[], None] | None = None) -> Started:
        """Start a command on a run; ``before`` is called in its process, and must be importable."""
        self.count += 1
        log = self.folder / f"{self.count}.log"
        argv = self.argv(name, run)
        log.touch()
        process = self.context.Process(target=_child, args=(name, argv, str(log), before))
        process.start()
        return Started(process, log)

    def copy(self, name: str) -> Path:
        """A fresh copy of the run before a command, of the same name: the report shows it."""
        self.count += 1
        return shutil.copytree(self.before(name), self.folder / "runs" / str(self.count) / "calm")

    def again(self, name: str, run: Path) -> Started:
        """Give a command again, and wait: it must succeed now."""
        started = self.start(name, run)
        assert started.wait() == 0, started.output
        return started

    @staticmethod
    def outputs(run: Path) -> dict[str, bytes]:
        """All files of a run by name, but studies, logs of what was asked and times.

        Unfinished files of a killed command go when a command next has the run for itself.
        """
        contents = {}
        for path in sorted(run.rglob("*")):
            name = str(path.relative_to(run))
            if path.is_dir() or path.name in (".lock", "run.json", "training.json"):
                continue
            if name.startswith("study.db") or name.endswith(".tmp"):
                continue
            content = path.read_bytes()
            if path.suffix == ".json":
                entries = json.loads(content)
                content = json.dumps(
                    {k: v for k, v in entries.items() if k not in TIMELESS}
                ).encode()
            contents[name] = content
        return contents

    def different(self, name: str, run: Path) -> list[str]:
        """Files that are not what the undisturbed command left."""
        wanted, actual = self.wrote[name], self.outputs(run)
        return sorted(n for n in {*wanted, *actual} if wanted.get(n) != actual.get(n))

    def rows_lost(self, run: Path) -> int:
        """Rows of the input files that the run's tables and views lack."""
        import pyarrow.parquet as pq

        lost = 0
        for split, rows in (("train", ROWS), ("test", TEST_ROWS)):
            tables = [*run.glob(f"battles/{split}.parquet"), *run.glob(f"views/*/{split}.parquet")]
            lost += sum(abs(rows - pq.read_metadata(path).num_rows) for path in tables)
        submission = run / "submission.csv"
        if submission.exists():
            lost += abs(TEST_ROWS + 1 - len(submission.read_text().splitlines()))
        return lost
