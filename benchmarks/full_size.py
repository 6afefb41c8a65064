"""The second stage at its users' size: train_meta.py and submit.py on LMSYS-like battles.

    python benchmarks/full_size.py
    python benchmarks/full_size.py --rows 20000 --trials 5
    python benchmarks/full_size.py --rows 2000 --width 256 --trials 0 --test-rows 1000

The texts are those of ``lmsys_like.py``, and ``extract.py --no-language-model`` reads them. The
states of a language model are drawn: float16, a heavy component that all have in common, a spectrum
that falls by a power law, and what half the variance comes from is the same in all slots of an
answer. Each slot has a direction for the side and one for the tie; these, the lengths and the bold
type of the answers make the probabilities that the votes are drawn from, so the best possible log
loss is known. With 57,477 battles, 25,000 to predict, 12 slots and 3,584 values the states take
14 GB of disk; they are written in blocks. There is no view of likelihoods. "probes, fused by the
truth" is what a second stage could reach at best with these probes.

Printed are seconds and peak resident memory of each command (VmHWM of Linux; mapped pages of the
store count) and of its largest worker, those of the steps of ``train_meta.py``, and log losses.
With ``--keep`` the folder stays: the next call of the same sizes only trains, anew, and predicts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.fft import dct
from scipy.special import softmax
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler

from arena.schema import CLASSES
from arena.swap import SWAP
from arena.view import STYLE
from benchmarks import lmsys_like, memory
from common.files import write_json
from common.parquet import read_notes, write_table
from common.run_dir import RunDir
from embeddings.cache.shards import SHARD_ITEMS, ShardWriter, settings_hash
from features.formatting import bold
from features.text import Text
from features.verbosity import characters
from meta.metrics.scores import log_loss
from meta.stack import model_io
from meta.stack.dataset import read_dataset
from meta.votes import examples
from pipelines import cli

PIPELINES = Path(__file__).resolve().parents[1] / "pipelines"

BLOCK = SHARD_ITEMS // 2
"""Battles drawn at once: their answers are a shard."""
SHARED = 0.5
"""Of a state's variance, what all slots of an answer have in common."""
FALL = 0.5
"""The standard deviation along the k-th direction of the spectrum, and how much the votes depend on
it, fall as k ** -FALL."""
COMMON, OUTLIER, SPREAD = 3.0, 60.0, 0.5
"""Size of a value of the common component, of three of them, and of what differs from it."""
SIDE, LENGTH, BOLD, TIE = 1.0, 0.25, 0.2, 0.4
"""Log-odds for each unit of what the votes depend on."""

MIB = 1e6 / 2**20
Step = tuple[str, float, float, float]
"""Name, seconds, peak MiB, peak MiB of the largest worker."""


class World:
    """What states of all battles have in common, the same every time."""

    def __init__(self, slots: int, width: int) -> None:
        """Draw it."""
        draw = np.random.default_rng(20)
        fall = np.arange(1, width + 1, dtype=np.float32) ** -FALL
        self.spectrum = SPREAD * fall / np.sqrt(np.mean(fall**2))
        self.common = COMMON * draw.standard_normal((slots, width), dtype=np.float32)
        self.common[:, draw.permutation(width)[:3]] = OUTLIER
        # Each slot has a basis of its own, and its spectrum falls along another order of it.
        self.order = np.stack([draw.permutation(width) for _ in range(slots)])
        sides = fall * draw.standard_normal((2, slots, width), dtype=np.float32)
        self.side, self.tie = sides / np.sqrt((sides**2).sum(axis=(1, 2), keepdims=True))

    def states(self, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of a block of battles: states float16 (2 n, slots, d), A and B in turn; side; tie."""
        draw = np.random.default_rng([20, first])
        shape = 2 * BLOCK, *self.order.shape
        latent = math.sqrt(1 - SHARED) * draw.standard_normal(shape, dtype=np.float32)
        latent += math.sqrt(SHARED) * draw.standard_normal((shape[0], 1, shape[2]), np.float32)
        a, b = latent[::2], latent[1::2]
        side = np.einsum("nsd,sd->n", a - b, self.side) / np.sqrt(2)
        tie = np.einsum("nsd,sd->n", a + b, self.tie) / np.sqrt(2)
        latent *= self.spectrum
        for slot, order in enumerate(self.order):
            latent[:, slot] = dct(latent[:, slot, order], norm="ortho") + self.common[slot]
        return latent.astype(np.float16), side, tie


def drawn(
    world: World, store: ShardWriter, first: int, count: int, truth: list[np.ndarray]
) -> Iterator[lmsys_like.Row]:
    """Battles from a block's first on: texts and votes; states go to the store as they come."""
    for start in range(first, first + count, BLOCK):
        states, side, tie = world.states(start)
        store.add(memory.keys(2 * start, len(states)), {"states": states})
        votes = np.random.default_rng([21, start]).random(BLOCK)
        rows = lmsys_like.rows(min(BLOCK, first + count - start), start)
        for i, (prompt, a, b, _) in enumerate(rows):
            odds = SIDE * side[i] + of_texts(Text(prompt), Text(a), Text(b))
            # The surer the side, the fewer the ties.
            truth.append(softmax([odds / 2, -odds / 2, TIE * tie[i] - 0.2 * abs(odds)]))
            yield prompt, a, b, int((votes[i] > truth[-1].cumsum()[:2]).sum())


def first_to_predict(rows: int) -> int:
    """The number of the first battle to predict: it begins a block."""
    return -(-rows // BLOCK) * BLOCK


def of_texts(prompt: Text, a: Text, b: Text) -> float:
    """What length and bold type add to A's log-odds."""
    length = characters(a, prompt) - characters(b, prompt)
    return LENGTH * length + BOLD * (bold(a, prompt) - bold(b, prompt))


def make(folder: Path, arguments: argparse.Namespace) -> list[Step]:
    """Battles, run and states in an empty folder; the truth of all battles beside them."""
    run, width, slots = RunDir(folder / "run"), arguments.width, arguments.slots
    names = [f"layer{1 + i // 2}.{('mean', 'last')[i % 2]}" for i in range(slots)]
    settings = {"synthetic": "full_size", "width": width, "slots": names}
    notes = {"source": settings_hash(settings), "slots": ",".join(names)}
    start, truth = time.perf_counter(), list[np.ndarray]()
    world = World(slots, width)
    writer = ShardWriter(run.views / "hidden" / notes["source"], settings)
    test_first = first_to_predict(arguments.rows)
    train, test = folder / "train.csv", folder / "test.csv"
    lmsys_like.write_rows(train, drawn(world, writer, 0, arguments.rows, truth))
    rows = drawn(world, writer, test_first, arguments.test_rows, truth)
    lmsys_like.write_rows(test, rows, test_first)
    np.save(folder / "truth.npy", truth)
    steps = [("texts, states, votes", time.perf_counter() - start, memory.peak("self") * MIB, 0.0)]
    files = ["--train", str(train), "--test", str(test)]
    steps.append(command("extract.py", run, *files, "--no-language-model"))
    write_index(run, "train", 0, notes)
    write_index(run, "test", test_first, notes)
    return steps


def write_index(run: RunDir, split: str, first: int, notes: dict[str, str]) -> None:
    """The hidden view of a split, as ``extract.py`` writes it, of battles from ``first`` on."""
    table = pd.read_parquet(run.battles(split), columns=["id", "row", "reason"])
    keys = memory.keys(2 * first, 2 * len(table))
    table = table[table["reason"] == ""]
    columns = {
        "id": pa.array(table["id"], pa.string()),
        "key_a": pa.array([keys[2 * row] for row in table["row"]], pa.binary(32)),
        "key_b": pa.array([keys[2 * row + 1] for row in table["row"]], pa.binary(32)),
    }
    battles = read_notes(run.views / STYLE.name / f"{split}.parquet")["battles"]
    rows = pa.table(columns).replace_schema_metadata({**notes, "battles": battles})
    write_table(run.views / "hidden" / f"{split}.parquet", rows)


def command(name: str, run: RunDir, *options: str) -> Step:
    """Run a command as a user does; what it took."""
    start, own, workers = time.perf_counter(), 0.0, 0.0
    arguments = [sys.executable, str(PIPELINES / name), "--run", str(run.folder), *options]
    print(f"\n{name} {' '.join(options)}", flush=True)
    with subprocess.Popen(arguments) as process:
        while process.poll() is None:
            own = max(own, memory.peak(str(process.pid)))
            workers = max([workers, *map(memory.peak, memory.children(str(process.pid)))])
            time.sleep(0.1)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, name)
    return name, time.perf_counter() - start, own * MIB, workers * MIB


def prepared(folder: Path, arguments: argparse.Namespace) -> list[Step]:
    """What making the folder took, now or when an earlier call made it."""
    sizes = {name: getattr(arguments, name) for name in ("rows", "width", "slots", "test_rows")}
    note = folder / "made.json"
    made = json.loads(note.read_text()) if note.exists() else None
    folder.mkdir(parents=True, exist_ok=True)
    if made is None and not any(folder.iterdir()):
        made = {"sizes": sizes, "steps": make(folder, arguments)}
        write_json(note, made)
    if made is None or made["sizes"] != sizes:
        sys.exit(f"{folder} holds something else, or was not finished: name another folder")
    return [(name, *costs) for name, *costs in made["steps"]]


def of_probes(run: RunDir, truth: np.ndarray, first: int) -> np.ndarray:
    """What the probes of all rows can give at best.

    They and the texts' true part are fused by a logistic regression that is fitted to the true
    probabilities of these very battles.

    Args:
        run: after training.
        truth: of the battles to predict, (n, 3).
        first: the number of the first of them.

    Returns:
        Probabilities (n, 3).
    """
    test = read_dataset(run, "test", ["hidden"])
    probes = test.unseen(model_io.load(run.model).base_models)["hidden"]
    side, tie = (
        probes.values[:, [name.endswith(question) for name in probes.names]]
        for question in (".side", ".tie")
    )
    odds = [of_texts(*map(Text, row[:3])) for row in lmsys_like.rows(len(truth), first)]
    known = np.column_stack([side, odds])
    given = LinearRegression(fit_intercept=False).fit(known, np.log(truth[:, 0] / truth[:, 1]))
    known = StandardScaler().fit_transform(np.column_stack([known, tie, abs(given.predict(known))]))
    of_example, labels, weights = examples(truth)
    fused = LogisticRegression(C=100.0, max_iter=1000).fit(known[of_example], labels, weights)
    return np.asarray(fused.predict_proba(known))


def report(run: RunDir, folder: Path, steps: list[Step], arguments: argparse.Namespace) -> None:
    """Print the table, and the losses."""
    print(
        f"\n{arguments.rows:,} battles, {arguments.test_rows:,} to predict, {arguments.slots} slots"
        f" of {arguments.width:,} values, {arguments.trials} trials; {os.cpu_count()} cores"
    )
    print(f"{'step':28} {'seconds':>9} {'peak MiB':>9} {'a worker':>9}")
    metrics = json.loads(run.metrics.read_text())
    for name, *costs in steps:
        print(f"{name:28} " + " ".join(f"{cost:9,.0f}" for cost in costs if cost))
        for part, mib in metrics["peak_mib"].items() if name == "train_meta.py" else ():
            print(f"  {part:26} {metrics['seconds'][part]:9,.0f} {mib:9,}")
    print("log loss of the battles with votes, by nested cross-validation")
    for name, loss in metrics["log_loss"].items():
        print(f"  {name:26} {loss:.4f}")
    train, labels = (
        pd.read_parquet(run.battles(split), columns=["label"])["label"].to_numpy()
        for split in ("train", "test")
    )
    shares = np.bincount(train[train >= 0], minlength=3) / np.sum(train >= 0)
    print("log loss of the battles to predict")
    truth = np.load(folder / "truth.npy")[arguments.rows :]
    for name, guess in {
        "prior": np.tile((shares + shares[SWAP]) / 2, (len(labels), 1)),
        "submission.csv": pd.read_csv(run.submission)[list(CLASSES)].to_numpy(),
        "probes, fused by the truth": of_probes(run, truth, first_to_predict(arguments.rows)),
        "true probabilities (Bayes)": truth,
    }.items():
        print(f"  {name:26} {log_loss(guess[labels >= 0], labels[labels >= 0]):.4f}")


def main(arguments: argparse.Namespace) -> None:
    """Make the run, train, predict, print."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        steps, run = prepared(folder, arguments), RunDir(folder / "run")
        run.study.unlink(missing_ok=True)
        steps.append(command("train_meta.py", run, "--trials", str(arguments.trials)))
        steps.append(command("submit.py", run))
        report(run, folder, steps, arguments)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option, default, what in (
        ("--rows", lmsys_like.ROWS, "battles with votes"),
        ("--width", 3_584, "values of a state"),
        ("--slots", 12, "states of an answer"),
        ("--test-rows", 25_000, "battles to predict"),
    ):
        p.add_argument(option, type=cli.positive, default=default, help=f"{what} ({default:,})")
    p.add_argument("--trials", type=int, default=20, help="Optuna trials (20)")
    p.add_argument("--keep", type=Path, metavar="DIR", help="make the files there, and leave them")
    sys.exit(cli.run(main, p.parse_args()))
