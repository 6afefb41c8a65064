"""How far from the best possible forecast, and how that falls with rows.

    python benchmarks/regret.py                        the sample, handcrafted views
    python benchmarks/regret.py --run runs/sample --views style,likelihood,hidden,davidson,lexical
    python benchmarks/regret.py --battles train.csv    other texts, simulated votes

Votes are drawn from the annotator of arena/sample/annotator.py, so the true probabilities p of
every battle are known and the regret of a forecast q is exact, without the noise of a vote: the
mean of sum p log(p / q), in nats. 1x is one vote on each battle. Below 1x a share of the prompts is
trained on; above it each battle has more votes, as rows of their own (``make_sample.py --votes``),
with the shipped votes first. So the rows differ, the scored battles never do: all of them, each by
a second stage that saw nothing of its fold of prompt groups. Prior and length are fitted on the
same rows.

The interval is a bootstrap over prompt groups of the mean over --draws independent draws of votes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np

import features
from arena import sample
from arena.battle_table import texts_hash, write_battles
from arena.reader import read_battles, valid_rows
from arena.sample.annotator import annotate
from arena.sample.battles import Battle, draw
from arena.schema import TEXTS
from common.errors import Code, UserError
from common.run_dir import RunDir
from meta.base_models.baselines import Baselines
from meta.metrics.bootstrap import paired_bootstrap
from meta.metrics.scores import FLOOR
from meta.stack.dataset import Dataset, read_dataset
from meta.stack.nested_cv import CrossValidation, Settings, folds_for
from pipelines import cli

LARGEST = 8
HANDCRAFTED = ("style", "lexical", "davidson")


def regrets(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of forecasts ``q`` from the truth ``p``, (n, 3) each; (n,)."""
    parts = p * (np.log(np.maximum(p, FLOOR)) - np.log(np.maximum(q, FLOOR)))
    return np.asarray(parts.sum(axis=1))


def handcrafted_run(path: str, folder: Path) -> RunDir:
    """A run of a file's battles with the views that need no language model."""
    run = RunDir(folder)
    table = read_battles(path, labelled=False)
    write_battles(run.battles("train"), table)
    usable = valid_rows(table)
    features.extract(usable).write(run.views / "style" / "train.parquet", texts_hash(usable))
    return run


def truth_and_votes(evidence: Dataset, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities float64 (n, 3), and votes int (draws, n, LARGEST)."""
    truths, votes = [], []
    parts = (part[["id", *TEXTS]].itertuples(index=False) for part in evidence.texts)
    for name, prompt, a, b in chain.from_iterable(parts):
        truth = annotate(prompt, a, b)
        number = int(name) if name.isdecimal() else int(sha256(name.encode()).hexdigest()[:12], 16)
        battle = Battle(number, "train", ("", ""), prompt, (a, b))
        truths.append(truth)
        votes.append(np.reshape(draw(battle, truth, draws * LARGEST), (draws, LARGEST)))
    return np.array(truths), np.stack(votes, axis=1)


def shares_of(groups: np.ndarray) -> np.ndarray:
    """A number in [0, 1) by each row's group, fixed by its name; (n,)."""
    return np.array([int(sha256(g.encode()).hexdigest()[:12], 16) / 16**12 for g in groups])


def forecasts(
    evidence: Dataset, folds: np.ndarray, votes: np.ndarray, factor: float, settings: Settings
) -> Iterator[tuple[np.ndarray, int, dict[str, np.ndarray]]]:
    """Train on ``factor`` times the rows without each fold; forecasts of that fold's battles.

    Args:
        evidence: one row a battle, n.
        folds: int (n,).
        votes: int (n, LARGEST).
        factor: below 1 the share of prompt groups, above it votes a battle.
        settings: of the second stage.

    Yields:
        Positions of the fold's battles, rows trained on, and forecasts by name.
    """
    counts = max(1, int(factor))
    learn = shares_of(evidence.battles["group"].to_numpy()) < factor
    for k in np.unique(folds):
        held = np.flatnonzero(folds == k)
        rows = np.concatenate([held, np.repeat(np.flatnonzero(learn & (folds != k)), counts)])
        labels = np.concatenate([votes[held, 0], votes[learn & (folds != k), :counts].ravel()])
        part = evidence.take(rows)
        part = replace(part, battles=part.battles.assign(label=labels))
        scored, training = np.arange(len(held)), np.arange(len(held), len(rows))
        lengths = evidence.texts.lengths[rows]
        nulls = Baselines.fit(lengths[training], labels[training])
        predictions = nulls.predict(lengths[scored])
        with tempfile.TemporaryDirectory() as folder:
            cv = CrossValidation(part, folds[rows], RunDir(Path(folder)))
            sets = {"meta": evidence.names}
            for name, fusion, views in cv.train_stackers(int(k), sets, lambda _: settings):
                design = fusion.design(views)
                predictions[name] = fusion.predict(design)
                predictions["uncalibrated"] = fusion.uncalibrated(design)
        yield held, len(training), predictions


def measure(run: RunDir, arguments: argparse.Namespace) -> None:
    """Print a line a size."""
    evidence = read_dataset(run, "train", arguments.views)
    truth, votes = truth_and_votes(evidence, arguments.draws)
    groups = evidence.battles["group"].to_numpy()
    folds = folds_for(evidence, arguments.folds)
    settings = Settings(arguments.folds, arguments.trials, arguments.bags)
    bayes = -(truth * np.log(np.maximum(truth, FLOOR))).sum(axis=1).mean()
    print(
        f"{len(truth):,} battles of {len(set(groups)):,} prompt groups, {arguments.draws} draws of "
        f"SIMULATED votes; Bayes {bayes:.4f}; views: {', '.join(evidence.names)}"
    )
    print(f"{'':<8}{'rows':>7}   regret (95% interval){'':<7}uncalibrated  length   prior  seconds")
    for factor in arguments.factors:
        start = time.perf_counter()
        total: dict[str, np.ndarray] = {}
        sizes = []
        for of_draw in votes:
            for held, size, predictions in forecasts(evidence, folds, of_draw, factor, settings):
                sizes.append(size)
                for name, q in predictions.items():
                    losses = total.setdefault(name, np.zeros(len(truth)))
                    losses[held] += regrets(truth[held], q) / len(votes)
        c = paired_bootstrap(total["meta"], np.zeros(len(truth)), groups)
        others = (total[name].mean() for name in ("uncalibrated", "length", "prior"))
        print(
            f"{factor:<5g}x  {np.mean(sizes):>7,.0f}   {c.difference:.4f} [{c.low:.4f}, "
            f"{c.high:.4f}]{'':<7}"
            + "".join(f"{x:>{w}.4f}" for x, w in zip(others, (12, 8, 8), strict=True))
            + f"{time.perf_counter() - start:>9.0f}",
            flush=True,
        )


def main(arguments: argparse.Namespace) -> None:
    """Measure on a run that is there, or on a temporary one."""
    if max(arguments.factors) > LARGEST or min(arguments.factors) <= 0:
        raise UserError(Code.OPTION_INVALID, f"--factors must lie above 0 and not above {LARGEST}")
    if arguments.run:
        measure(RunDir(Path(arguments.run)), arguments)
        return
    arguments.views = arguments.views or list(HANDCRAFTED)
    with tempfile.TemporaryDirectory() as folder:
        measure(handcrafted_run(arguments.battles or str(sample.TRAIN), Path(folder)), arguments)


def factors(text: str) -> list[float]:
    """An argument of numbers parted by commas."""
    return [float(part) for part in text.split(",")]


if __name__ == "__main__":
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", help="a run of extract.py, its training battles")
    p.add_argument("--battles", metavar="FILE", help="texts to vote on (the sample's)")
    p.add_argument("--views", metavar="A,B", type=cli.names, help="views to fuse")
    p.add_argument("--factors", type=factors, default=[0.25, 0.5, 1, 2, 4, 8], metavar="X,Y")
    p.add_argument("--draws", type=cli.positive, default=2, metavar="D", help="draws of votes")
    p.add_argument("--trials", type=int, default=0, metavar="N", help="Optuna trials a study")
    p.add_argument("--folds", type=int, default=5, metavar="K", help="folds of prompt groups")
    p.add_argument("--bags", type=cli.positive, default=1, metavar="N", help="boosters")
    sys.exit(cli.run(main, p.parse_args()))
