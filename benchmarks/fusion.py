"""What each part of the second stage is worth: log loss without it, seconds and bytes.

    python benchmarks/fusion.py --run runs/votes
    python benchmarks/fusion.py --run runs/votes --labels FILE --trials 2

Every line is the second stage without one part, trained anew on the same nested folds, so that the
rows that are scored had been seen by nothing. The first line's seconds are those of tuning and of
the views that learn too; the others find its trials and fits. ``--labels`` scores the run's test
battles as well: they are to be looked at, not to choose by. What each view is worth, ``compare.py``
prints.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np

from arena.feature_table import FeatureTable
from common.run_dir import RunDir
from meta.calibrators import Identity
from meta.metrics.bootstrap import paired_bootstrap
from meta.metrics.scores import log_loss, row_losses
from meta.stack.dataset import Dataset, read_dataset, training_part
from meta.stack.nested_cv import CrossValidation, OutOfFold, Settings, folds_for, outer_folds
from meta.stack.pool import Pool
from meta.stack.stacker import Stacker
from meta.votes import scored_votes
from pipelines import cli
from tiebreak.comparison import voted_battles

WHOLE = "the whole"

Scores = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
"""By variant: probabilities (n, 3), votes and groups (n,) of the rows that are scored."""


def variants(whole: Settings) -> dict[str, Settings]:
    """The second stages that are trained, by name."""
    return {
        WHOLE: whole,
        "without tuning": replace(whole, trials=0),
        "with one booster": replace(whole, bags=1),
        "without the forest": replace(whole, forest=False),
    }


def forest_alone(stacker: Stacker, design: FeatureTable) -> np.ndarray:
    """Probabilities (n, 3) of the forest by itself."""
    assert stacker.forest is not None
    return Identity()(stacker.forest.log_probabilities(design))


def halves(stacker: Stacker, design: FeatureTable) -> np.ndarray:
    """Probabilities (n, 3) of the plain mean of both parts, before calibration."""
    return Identity()(replace(stacker, pool=Pool()).raw(design))


PARTS: dict[str, Callable[[Stacker, FeatureTable], np.ndarray]] = {
    "without a calibrator": Stacker.uncalibrated,
    "with halves for the pool": halves,
    "the forest alone": forest_alone,
}
"""What the whole says where a part of it is left out of the trained model, by name."""


def size(stacker: Stacker) -> int:
    """Bytes of its boosters' text and of its forest's arrays."""
    trees = sum(len(booster.model_to_string()) for booster in stacker.boosters)
    arrays = stacker.forest.arrays().values() if stacker.forest is not None else ()
    return trees + sum(array.nbytes for array in arrays)


def trained(
    cv: CrossValidation, held_out: int | None, settings: Settings
) -> tuple[Stacker, dict[str, FeatureTable]]:
    """The stacker of all views on all rows but those of a fold, and the views of these."""
    sets = {"meta": cv.dataset.names}
    _, stacker, views = next(cv.train_stackers(held_out, sets, lambda _: settings))
    return stacker, views


def compare(
    dataset: Dataset, test: tuple[Dataset, np.ndarray] | None, whole: Settings
) -> tuple[Scores, Scores, dict[str, tuple[float, int]]]:
    """Scores of all variants nested and on the test battles, and seconds and bytes of each.

    Args:
        dataset: the training battles.
        test: other battles and their votes.
        whole: the settings of what is compared with.
    """
    folds = folds_for(dataset, whole.folds)
    outer = outer_folds(folds)
    nested = OutOfFold(np.flatnonzero(np.isin(folds, outer)), len(folds))
    on_test: dict[str, np.ndarray] = {}
    costs: dict[str, tuple[float, int]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        cv = CrossValidation(dataset, folds, RunDir(Path(temporary)))
        for name, settings in variants(whole).items():
            start = time.perf_counter()
            for held_out in [*outer, None] if test else outer:
                stacker, views = trained(cv, held_out, settings)
                if held_out is None:
                    assert test is not None
                    views = test[0].unseen({n: fit.on_all() for n, fit in cv.fits.items()})
                design = stacker.design(views)
                forecasts = {name: Stacker.predict, **(PARTS if name == WHOLE else {})}
                for what, forecast in forecasts.items():
                    probabilities = forecast(stacker, design)
                    if held_out is None:
                        on_test[what] = probabilities
                    else:
                        nested.add(what, np.flatnonzero(folds == held_out), probabilities)
            costs[name] = (time.perf_counter() - start, size(stacker))
    battles = dataset.battles.iloc[nested.rows]
    votes, groups = scored_votes(battles), battles["group"].to_numpy()
    scores = {name: (p, votes, groups) for name, p in nested.probabilities.items()}
    if test is None:
        return scores, {}, costs
    groups = test[0].battles["group"].to_numpy()
    return scores, {name: (p, test[1], groups) for name, p in on_test.items()}, costs


def table(title: str, scores: Scores, costs: dict[str, tuple[float, int]]) -> str:
    """Log loss of each variant, and by how much it is above the whole's with a 95% interval."""
    lines = [f"{title:<26}{'log loss':>10}  {'above the whole':<28}{'seconds':>8}{'MB':>7}"]
    whole = row_losses(*scores[WHOLE][:2])
    for name, (probabilities, votes, groups) in scores.items():
        line = f"{name:<26}{log_loss(probabilities, votes):>10.4f}  "
        if name != WHOLE:
            gap = paired_bootstrap(row_losses(probabilities, votes), whole, groups)
            line += f"{gap.difference:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
        if name in costs:
            seconds, bytes_ = costs[name]
            line = f"{line:<66}{seconds:>8.0f}{bytes_ / 1e6:>7.1f}"
        lines.append(line)
    return "\n".join(lines)


def main(arguments: argparse.Namespace) -> None:
    """Compare, and print the tables."""
    run = RunDir(Path(arguments.run))
    dataset = training_part(read_dataset(run, "train"))
    test = voted_battles(run, arguments.labels, dataset.names)
    whole = Settings(arguments.folds, arguments.trials, arguments.bags)
    nested, on_test, costs = compare(dataset, test, whole)
    print(table(f"nested, {len(next(iter(nested.values()))[1]):,} battles", nested, costs))
    if test:
        print(table(f"test, {len(test[1]):,} battles", on_test, {}))


if __name__ == "__main__":
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument("--labels", metavar="FILE", help="votes of the test battles (their file's own)")
    p.add_argument("--folds", type=cli.folds, default=5, metavar="K", help="folds of prompt groups")
    p.add_argument("--trials", type=int, default=20, metavar="N", help="Optuna trials a study")
    p.add_argument("--bags", type=cli.positive, default=3, metavar="N", help="boosters")
    sys.exit(cli.run(main, p.parse_args()))
