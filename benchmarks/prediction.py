"""A trained run as an object, Tiebreak.predict_proba, against the commands on the same battles.

    python benchmarks/prediction.py
    python benchmarks/prediction.py --run runs/lmsys --rows 1000
    python benchmarks/prediction.py --quick

Two runs are timed: the whole one, and a copy of it whose second stage has the handcrafted signals
alone (``signals``). Without ``--run`` a small one is trained first, on rows of the sample's
training file. The battles are rows of that file, each with a number in its prompt, so that no
conversation occurs twice and every answer must be read. The peer is what a user of commands would
do with the same battles: ``extract.py --test`` and ``submit.py``, in processes of their own; they
read with the language model for either run, so they get few battles. Printed are medians over the
rounds, in wall time and, since machines are shared, in processor time of all processes; the
probabilities of both ways must be equal to 1e-6.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd

from arena import sample
from arena.schema import CLASSES
from arena.view import STYLE
from common.run_dir import RunDir
from meta.stack.nested_cv import Settings
from pipelines import cli
from tiebreak import Tiebreak
from tiebreak.training import train_run

TRAINING_ROWS = 300
PIPELINES = Path(__file__).resolve().parents[1] / "pipelines"

Result = TypeVar("Result")

Times = tuple[float, float]
"""Wall and processor seconds."""


def battles(rows: int, round_number: int) -> pd.DataFrame:
    """Battles of the sample without votes, again and again until there are ``rows``, none twice."""
    table = pd.read_csv(sample.TRAIN)[["id", "prompt", "response_a", "response_b"]]
    table = table.iloc[(TRAINING_ROWS + np.arange(rows)) % len(table)].reset_index(drop=True)

    def marked(prompt: str, row: int) -> str:
        first, *others = json.loads(prompt)
        return json.dumps([f"({round_number}.{row}) {first}", *others])

    prompts = [marked(prompt, row) for row, prompt in enumerate(table["prompt"])]
    return table.assign(id=[str(row) for row in range(rows)], prompt=prompts)


def pairs(table: pd.DataFrame) -> list[list[list[str]]]:
    """The turns of prompt, answer A and answer B of each battle."""
    texts = table[["prompt", "response_a", "response_b"]].map(json.loads)
    return [list(turns) for turns in texts.to_numpy()]


def processor_seconds() -> float:
    """Of this process and of its children that ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(work: Callable[[], Result]) -> tuple[Result, Times]:
    """The result of some work, and the seconds that it takes."""
    wall, processor = time.perf_counter(), processor_seconds()
    result = work()
    return result, (time.perf_counter() - wall, processor_seconds() - processor)


def by_commands(run: Path, table: pd.DataFrame, scratch: Path) -> np.ndarray:
    """Probabilities of battles by ``extract.py --test`` and ``submit.py``."""
    file = scratch / "battles.csv"
    table.to_csv(file, index=False)
    for command, *options in (["extract.py", "--test", str(file)], ["submit.py"]):
        arguments = [sys.executable, str(PIPELINES / command), *options, "--run", str(run)]
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return pd.read_csv(run / "submission.csv")[list(CLASSES)].to_numpy()


def show(what: str, times: list[Times], battles_each: int = 1) -> None:
    """Print a line: medians of the rounds."""
    wall, processor = np.median(np.array(times), axis=0)
    rate = f"{battles_each / wall:10,.1f} battles/s" if battles_each > 1 else ""
    print(f"{what:44} {1e3 * wall:10,.1f} ms {1e3 * processor:10,.1f} ms {rate}", flush=True)


def measure_pairs(name: str, run: Path, model: Tiebreak, rounds: int) -> None:
    """One pair in a process of its own; one pair of a loaded model; the same again."""
    texts = pairs(battles(rounds, 98))
    code = (
        "import sys, tiebreak; tiebreak.Tiebreak.load(sys.argv[1]).predict_proba('2+2?', '4', '5')"
    )
    fresh = [sys.executable, "-c", code, str(run)]
    root = str(PIPELINES.parent)
    process = [timed(partial(subprocess.run, fresh, check=True, cwd=root))[1] for _ in range(3)]
    model.predict_proba(*pairs(battles(1, 99))[0])
    new = [timed(partial(model.predict_proba, *pair))[1] for pair in texts]
    again = [timed(partial(model.predict_proba, *pair))[1] for pair in texts]
    show(f"{name}: import, load, one short pair", process)
    show(f"{name}: one pair", new)
    show(f"{name}: one pair, read before", again)


def measure_table(name: str, model: Tiebreak, tables: list[pd.DataFrame]) -> None:
    """Tables of new battles, each again once it was read."""
    new, again = [], []
    for table in tables:
        probabilities, seconds = timed(partial(model.predict_proba, table))
        same, seconds_again = timed(partial(model.predict_proba, table))
        np.testing.assert_array_equal(same, probabilities)
        new.append(seconds)
        again.append(seconds_again)
    rows = len(tables[0])
    show(f"{name}: {rows:,} battles", new, rows)
    show(f"{name}: {rows:,} battles, read before", again, rows)


def measure_commands(
    name: str, run: Path, model: Tiebreak, tables: list[pd.DataFrame], scratch: Path
) -> None:
    """The object and the commands in turn on the same battles, which neither has read."""
    ours, theirs = [], []
    for table in tables:
        probabilities, seconds = timed(partial(model.predict_proba, table))
        by_files, seconds_by_files = timed(partial(by_commands, run, table, scratch))
        np.testing.assert_allclose(by_files, probabilities, atol=1e-6)
        ours.append(seconds)
        theirs.append(seconds_by_files)
    rows = len(tables[0])
    show(f"{name}: {rows:,} battles by the commands", theirs, rows)
    ratio = np.median(np.array(theirs), axis=0) / np.median(np.array(ours), axis=0)
    print(f"  the commands take {ratio[0]:.1f} times as long, {ratio[1]:.1f} times the processor")


@contextmanager
def two_runs(run: str | None) -> Iterator[tuple[Path, Path, Path]]:
    """The whole run, its copy with signals alone, and a folder for other files."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        whole, signals = scratch / "whole", scratch / "signals"
        if run:
            shutil.copytree(run, whole)
        else:
            print(f"training on {TRAINING_ROWS} rows of the sample", flush=True)
            Tiebreak.train(pd.read_csv(sample.TRAIN).head(TRAINING_ROWS), whole, trials=0)
        shutil.copytree(whole, signals)
        train_run(RunDir(signals), Settings(trials=0), views=[STYLE.name])
        yield whole, signals, scratch


def main(arguments: argparse.Namespace) -> None:
    """Make the runs, measure, print."""
    rounds, few, rows = (3, 10, 200) if arguments.quick else (5, 30, arguments.rows)
    with two_runs(arguments.run) as (whole, signals, scratch):
        load = os.getloadavg()[0]
        print(f"medians of {rounds} rounds; {os.cpu_count()} cores, load {load:.1f} at the start")
        print(f"{'':44} {'wall':>10}    {'processor':>10}")
        for name, run, many in (("signals", signals, rows), ("whole", whole, few)):
            model, seconds = timed(partial(Tiebreak.load, run))
            show(f"{name}: load", [seconds])
            measure_pairs(name, run, model, 4 * rounds)
            measure_table(name, model, [battles(many, i) for i in range(rounds)])
            tables = [battles(few, 100 + i) for i in range(3)]
            measure_commands(name, run, model, tables, scratch)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--run", metavar="DIR", help="a trained run (a small one, trained first)")
    p.add_argument("--rows", type=cli.positive, default=1_000, metavar="N", help="battles (1,000)")
    p.add_argument("--quick", action="store_true", help="fewer battles, three rounds")
    sys.exit(cli.run(main, p.parse_args()))
