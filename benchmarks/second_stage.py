"""Our second stage against AutoGluon on the same design matrix: seconds and held-out log loss.

    python benchmarks/second_stage.py --rival-python /path/to/venv/bin/python
    python benchmarks/second_stage.py --quick
    python benchmarks/second_stage.py --run runs/lmsys --rival-python ... --preset best_quality

AutoGluon wants versions of its own, so it lives in another virtual environment (``pip install
"autogluon.tabular[lightgbm,catboost,xgboost,fastai]"``; it takes the models that are there);
without ``--rival-python`` it is left out. It gets the rows in one order, one time limit after the
other until its log loss is as low as ours without tuning, and as many threads. Ours is what
``train_meta.py`` does for one fusion: five folds, early stopping on each, the choice of a
calibrator. By default the design is synthetic, 57,477 rows by 500 columns with a planted signal,
whose best possible log loss is printed; with ``--run`` it is the run's views that never saw a
label, and one fold of six is held out (``--fold``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
from scipy.special import softmax

from arena.feature_table import Column, FeatureTable, join
from arena.folds import fold_of
from arena.swap import SWAP
from benchmarks.lmsys_like import ROWS
from common.run_dir import RunDir
from meta.metrics.scores import log_loss
from meta.stack.dataset import read_dataset
from meta.stack.stacker import Stacker, fit_stacker
from meta.votes import labels_of

FOLDS, HELD = 5, 10_000
LIMITS = (30, 60, 120, 240, 480, 960, 1920)
"""Seconds that AutoGluon gets, one after the other."""
RIVAL = Path(__file__).with_name("second_stage_rival.py")

Design = tuple[FeatureTable, np.ndarray, np.ndarray]
"""Features, labels int (n,), group names (n,)."""


def planted(rows: int, columns: int, seed: int = 7) -> tuple[Design, np.ndarray]:
    """A design of half anti, half sym columns; and the true probabilities, (rows, 3)."""
    draw = np.random.default_rng(seed)
    half = columns // 2
    values = draw.standard_normal((rows, columns)).astype(np.float32)
    anti, sym = values[:, :half], values[:, half:]
    weights = draw.standard_normal(40) * 0.12
    side = anti[:, :40] @ weights + 0.5 * np.tanh(2 * anti[:, 40]) * (sym[:, 0] > 0)
    tie = -0.4 - 0.5 * np.abs(side) + 0.4 * np.sin(2 * sym[:, 1]) + 0.3 * sym[:, 2]
    truth = softmax(np.stack([side / 2, -side / 2, tie], axis=1), axis=1)
    labels = (draw.random((rows, 1)) > truth.cumsum(axis=1)).sum(axis=1).clip(max=2)
    parity = {f"a{i}": Column("anti") for i in range(half)}
    parity |= {f"s{i}": Column("sym") for i in range(columns - half)}
    groups = np.array([f"{i:016x}" for i in range(rows)])
    return (FeatureTable(groups.tolist(), values, parity), labels, groups), truth


def of_run(folder: str) -> Design:
    """The design of a run's views that never saw a label."""
    evidence = read_dataset(RunDir(Path(folder)), "train")
    groups = evidence.battles["group"].to_numpy(dtype=str)
    return join(evidence.tables), labels_of(evidence.battles), groups


def ours(train: Design, held: Design, trials: int, bags: int) -> tuple[float, float]:
    """Seconds and held-out log loss of our second stage."""
    view, labels, groups = train
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fusion: Stacker = fit_stacker(
            {"x": view},
            labels,
            fold_of(groups, FOLDS),
            groups,
            trials=trials,
            bags=bags,
            storage=Path(folder) / "study.db",
        )
    loss = log_loss(fusion.predict(join({"x": held[0]})), held[1])
    return time.perf_counter() - start, loss


def rival(
    python: Path, train: Design, held: Design, goal: float, limits: Sequence[int], preset: str
) -> None:
    """Give AutoGluon more and more time until it is as good, and print each."""
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "design.npz"
        arrays = {"train": train[0].values, "labels": train[1], "held": held[0].values}
        np.savez(data, **arrays)
        for limit in limits:
            out = Path(name) / "probabilities.npy"
            command = [python, RIVAL, data, out, str(limit), str(os.cpu_count()), preset]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                reason = (done.stderr.strip() or "no word").splitlines()[-1]
                print(f"AutoGluon {preset}, {limit} s: no model ({reason})", flush=True)
                continue
            result = json.loads(done.stdout.splitlines()[-1])
            loss = log_loss(np.load(out), held[1])
            what = f"AutoGluon {result['version']} {preset}, {limit} s ({result['best']})"
            report(what, result["seconds"], loss)
            if loss <= goal:
                return
    print("AutoGluon did not reach our log loss within these limits")


def report(what: str, seconds: float, loss: float) -> None:
    """Print a line."""
    print(f"{what:64} {seconds:8.1f} s   log loss {loss:.4f}", flush=True)


def take(design: Design, rows: np.ndarray) -> Design:
    """The design of some rows."""
    return design[0].take(rows), design[1][rows], design[2][rows]


def main() -> None:
    """Compare."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--run", metavar="DIR", help="a run's design instead of a synthetic one")
    p.add_argument("--fold", type=int, default=0, help="of the run, held out: 0 to 5 (0)")
    p.add_argument("--rows", type=int, default=ROWS, help=f"training rows ({ROWS})")
    p.add_argument("--columns", type=int, default=500, help="columns (500)")
    p.add_argument("--trials", type=int, default=5, help="of the tuned variant (5); 0: none")
    p.add_argument("--quick", action="store_true", help="3,000 rows, 100 columns, 2 trials")
    p.add_argument(
        "--limits", type=int, nargs="+", default=LIMITS, help=f"seconds for AutoGluon {LIMITS}"
    )
    p.add_argument("--preset", default="medium_quality", help="AutoGluon's (its default)")
    p.add_argument("--rival-python", type=Path, help="interpreter of an environment with AutoGluon")
    arguments = p.parse_args()
    if arguments.quick:
        arguments.rows, arguments.columns, arguments.trials = 3_000, 100, 2
    if arguments.run:
        design = of_run(arguments.run)
        unseen = fold_of(design[2], FOLDS + 1) == arguments.fold
    else:
        design, truth = planted(arguments.rows + HELD, arguments.columns)
        unseen = np.arange(len(truth)) >= arguments.rows
    train, held = take(design, ~unseen), take(design, unseen)
    print(
        f"{len(train[1]):,} rows x {len(design[0].columns)} columns, {len(held[1]):,} held out, "
        f"{os.cpu_count()} threads"
    )
    shares = np.bincount(train[1], minlength=3) / len(train[1])
    shares = (shares + shares[SWAP]) / 2
    report("prior", 0, log_loss(np.tile(shares, (len(held[1]), 1)), held[1]))
    if not arguments.run:
        report("true probabilities", 0, log_loss(truth[unseen], held[1]))
    seconds, goal = ours(train, held, 0, 1)
    report("ours, no tuning, one booster", seconds, goal)
    if arguments.rival_python:
        rival(arguments.rival_python, train, held, goal, arguments.limits, arguments.preset)
    report("ours, no tuning, three boosters", *ours(train, held, 0, 3))
    if arguments.trials:
        what = f"ours, {arguments.trials} trials, three boosters"
        report(what, *ours(train, held, arguments.trials, 3))


if __name__ == "__main__":
    main()
