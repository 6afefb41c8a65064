"""What a smaller store of hidden states costs: bytes, seconds of the probes, and log loss.

    python benchmarks/state_store.py --run runs/votes
    python benchmarks/state_store.py --run runs/votes --labels FILE

Every line keeps another part of the states that the run has, which must be of 16 bits: one byte a
value (``embeddings.frozen.one_byte``, or whole numbers), some slots, or a projection of each to
fewer values by random signs. The second stage is trained anew on it, without tuning, on the same
nested folds. "Best" slots are chosen in turn by what they add to a logistic model of the training
folds' out-of-fold scores, so no row that is scored has a say. ``--labels`` scores the run's test
battles as well. KB are those of a battle, seconds those of a processor in which the probes of all
folds are fitted. Memory holds all states of the run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np

from arena.schema import SEED
from common.run_dir import RunDir
from embeddings.frozen.one_byte import as_float16, to_bytes
from embeddings.frozen.states import HiddenStates, Rows
from meta.base_models import CrossFitted
from meta.base_models.hidden_probe import HiddenProbe
from meta.base_models.symmetric_logistic import SymmetricLogistic
from meta.metrics.bootstrap import paired_bootstrap
from meta.metrics.scores import log_loss, row_losses
from meta.stack.dataset import Dataset, read_dataset, training_part
from meta.stack.nested_cv import CrossValidation, OutOfFold, Settings, folds_for, outer_folds
from meta.votes import scored_votes
from pipelines import cli
from tiebreak.comparison import voted_battles

HIDDEN = HiddenProbe.kind.name


Rounding = Callable[[np.ndarray], tuple[np.ndarray, int]]
"""Of the states (n, d) of one answer: what is left of them, float16 (n, any), and its bytes."""


def half(states: np.ndarray) -> tuple[np.ndarray, int]:
    """The states as they are."""
    return states, states.nbytes


def float8(states: np.ndarray) -> tuple[np.ndarray, int]:
    """The states as ``--state-bits 8`` stores them."""
    stored = to_bytes(states)
    return as_float16(stored), stored.nbytes


def int8(states: np.ndarray) -> tuple[np.ndarray, int]:
    """Whole numbers of one byte, times a float16 for each state."""
    values = states.astype(np.float32)
    scale = (np.abs(values).max(axis=1, keepdims=True) / 127).astype(np.float16)
    scale = np.maximum(scale, np.float16(1e-4)).astype(np.float32)
    whole = np.rint(values / scale).clip(-127, 127)
    return (whole * scale).astype(np.float16), states.size + 2 * len(states)


def projected(states: np.ndarray, divisor: int) -> tuple[np.ndarray, int]:
    """Sums with random signs, of whose values there are fewer by ``divisor``."""
    width = states.shape[1]
    signs = np.random.default_rng(SEED).choice((-1, 1), (width, width // divisor))
    scaled = (signs / np.sqrt(width)).astype(np.float32)
    left = (states.astype(np.float32) @ scaled).astype(np.float16)
    return left, left.nbytes


@dataclass(frozen=True)
class Cut:
    """What is kept of the states."""

    keep: Callable[[str], bool] = bool
    """Of a slot's name: whether the slot is."""
    best: int = 0
    """How many of the slots are: the best; 0: all."""
    rounding: Rounding = half
    """Of the states of a slot."""

    def left(self, states: HiddenStates, slots: Sequence[str]) -> tuple[HiddenStates, int]:
        """What is left of the states in these slots, in memory, and its bytes."""
        pairs = [states.slot(states.slots.index(slot)) for slot in slots]
        left = [(self.rounding(a), self.rounding(b)) for a, b in pairs]
        arrays = [(a, b) for (a, _), (b, _) in left]
        size = sum(a + b for (_, a), (_, b) in left)

        def part(number: int, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
            a, b = arrays[number]
            return a[rows], b[rows]

        return HiddenStates(states.ids, list(slots), part, states.source), size


def of(*poolings: str) -> Callable[[str], bool]:
    """Whether a slot is of one of these poolings."""
    return lambda slot: slot.split(".")[1] in poolings


WHOLE = "all slots"

CUTS = {
    WHOLE: Cut(),
    "8-bit floats": Cut(rounding=float8),
    "no prompt pooling": Cut(of("mean", "last")),
    "best 4 slots": Cut(best=4),
    "8 bits, no prompt": Cut(of("mean", "last"), rounding=float8),
    "means alone": Cut(of("mean")),
    "no states": Cut(lambda _: False),
    "1/2 of the values": Cut(rounding=partial(projected, divisor=2)),
    "8-bit integers": Cut(rounding=int8),
    "best 6 slots": Cut(best=6),
    "best 3 slots": Cut(best=3),
    "best 2 slots": Cut(best=2),
    "best slot": Cut(best=1),
    "last tokens alone": Cut(of("last")),
    "1/4 of the values": Cut(rounding=partial(projected, divisor=4)),
    "1/8 of the values": Cut(rounding=partial(projected, divisor=8)),
}
"""What is compared, by name."""


def probe_of(dataset: Dataset) -> HiddenProbe:
    """The probes of a dataset."""
    probe = dataset.base_models[HIDDEN]
    assert isinstance(probe, HiddenProbe)
    return probe


def ranking(fits: CrossFitted, slots: Sequence[str], held_out: int | None) -> list[str]:
    """The slots, each the one that adds most to those before it, by rows outside a fold."""
    rows = fits.folds != (-1 if held_out is None else held_out)
    scores = fits.out_of_fold(held_out).values[rows, : 3 * len(slots)].reshape(-1, len(slots), 3)
    votes, chosen = fits.votes[rows], list[int]()

    def loss(members: list[int]) -> float:
        anti, sym = scores[:, members, 0], scores[:, members, 1:].reshape(len(scores), -1)
        return log_loss(SymmetricLogistic.fit(anti, sym, votes).predict(anti, sym), votes)

    while len(chosen) < len(slots):
        others = [i for i in range(len(slots)) if i not in chosen]
        chosen.append(min(others, key=lambda i: loss([*chosen, i])))
    return [slots[i] for i in chosen]


def with_states(dataset: Dataset, states: HiddenStates) -> Dataset:
    """The dataset with other states, or with none."""
    if not states.slots:
        return dataset.without(HIDDEN)
    return replace(dataset, base_models={**dataset.base_models, HIDDEN: HiddenProbe(states)})


@dataclass
class Forecasts:
    """What the second stage says where a cut is made."""

    nested: OutOfFold
    """``meta``, and ``hidden`` alone, of the training battles that are scored."""
    test: np.ndarray | None
    """``meta`` of the test battles, (n, 3)."""
    size: int
    """Bytes of a battle's states."""
    seconds: float
    """Of processors, in which the probes of all folds were fitted."""
    slots: list[str]
    """What a final model has."""


def forecasts(
    whole: CrossValidation,
    test: Dataset | None,
    cut: Cut,
    rank: Callable[[int | None], list[str]],
    settings: Settings,
) -> Forecasts:
    """Train and predict where a cut is made.

    Args:
        whole: the training battles with all states.
        test: other battles.
        cut: what is kept.
        rank: the slots from the best on, by rows outside a fold.
        settings: of the second stage.
    """
    states, folds = probe_of(whole.dataset).states, whole.folds
    outer = outer_folds(folds)
    nested = OutOfFold(np.flatnonzero(np.isin(folds, outer)), len(folds))
    others = {name: fit for name, fit in whole.fits.items() if name != HIDDEN}
    made: dict[tuple[str, ...], tuple[CrossValidation, float]] = {}
    result = Forecasts(nested, None, 0, 0.0, [])
    for held_out in [*outer, None]:
        best = rank(held_out)[: cut.best] if cut.best else states.slots
        slots = [slot for slot in states.slots if slot in best and cut.keep(slot)]
        left, size = cut.left(states, slots)
        if tuple(slots) not in made:
            dataset = with_states(whole.dataset, left)
            cv = CrossValidation(dataset, folds, whole.run, fits=dict(others))
            start = time.process_time()
            if slots:
                cv.fits[HIDDEN].on_all()
            made[tuple(slots)] = cv, time.process_time() - start
        cv, seconds = made[tuple(slots)]
        if held_out is not None:
            rows = np.flatnonzero(folds == held_out)
            sets = {"meta": cv.dataset.names, **({HIDDEN: [HIDDEN]} if slots else {})}
            for name, stacker, views in cv.train_stackers(held_out, sets, settings.budget_for):
                nested.add(name, rows, stacker.predict(stacker.design(views)))
            continue
        result.size, result.seconds, result.slots = size // len(states.ids), seconds, slots
        if test is not None:
            sets = {"meta": cv.dataset.names}
            _, stacker, _ = next(cv.train_stackers(None, sets, settings.budget_for))
            own = with_states(test, cut.left(probe_of(test).states, slots)[0])
            views = own.unseen({name: fit.on_all() for name, fit in cv.fits.items()})
            result.test = stacker.predict(stacker.design(views))
    return result


def figures(
    probabilities: np.ndarray, whole: np.ndarray, votes: np.ndarray, groups: np.ndarray
) -> str:
    """Log loss, and by how much it is above that of the whole with a 95% interval."""
    text = f"{log_loss(probabilities, votes):.4f} "
    if probabilities is whole:
        return f"{text:<34}"
    gap = paired_bootstrap(row_losses(probabilities, votes), row_losses(whole, votes), groups)
    return f"{text}{gap.difference:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]".ljust(34)


def lines(
    dataset: Dataset, test: tuple[Dataset, np.ndarray] | None, settings: Settings
) -> Iterator[str]:
    """The table, line by line as it is computed.

    Args:
        dataset: the training battles.
        test: other battles and their votes.
        settings: of the second stage.
    """
    folds = folds_for(dataset, settings.folds)
    ranks: dict[int | None, list[str]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        whole = CrossValidation(dataset, folds, RunDir(Path(temporary)))

        def rank(held_out: int | None) -> list[str]:
            if held_out not in ranks:
                slots = probe_of(dataset).states.slots
                ranks[held_out] = ranking(whole.fits[HIDDEN], slots, held_out)
            return ranks[held_out]

        first: Forecasts | None = None
        for name, cut in CUTS.items():
            found = forecasts(whole, test[0] if test else None, cut, rank, settings)
            first = first or found
            battles = dataset.battles.iloc[found.nested.rows]
            votes, groups = scored_votes(battles), battles["group"].to_numpy()
            if found is first:
                yield (
                    f"{'what is kept':<24}{'KB':>6}{'s':>6}  "
                    f"{f'nested, {len(votes):,} battles':<34}{'states alone':<34}"
                    + (f"test, {len(test[1]):,} battles" if test else "")
                )
            line = f"{name:<24}{found.size / 1e3:>6.1f}{found.seconds:>6.1f}  "
            for what in ("meta", HIDDEN):
                own, all_ = (f.nested.probabilities.get(what) for f in (found, first))
                line += " " * 34 if own is None else figures(own, all_, votes, groups)
            if test and found.test is not None and first.test is not None:
                groups = test[0].battles["group"].to_numpy()
                line += figures(found.test, first.test, test[1], groups)
            yield line.rstrip()
            if cut.best:
                yield f"  of all battles: {', '.join(found.slots)}"


def main(arguments: argparse.Namespace) -> None:
    """Compare, and print the table."""
    run = RunDir(Path(arguments.run))
    dataset = training_part(read_dataset(run, "train"))
    test = voted_battles(run, arguments.labels, dataset.names)
    for line in lines(dataset, test, Settings(arguments.folds, 0, 1)):
        print(line, flush=True)


if __name__ == "__main__":
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument("--labels", metavar="FILE", help="votes of the test battles (their file's own)")
    p.add_argument("--folds", type=cli.folds, default=5, metavar="K", help="folds of prompt groups")
    sys.exit(cli.run(main, p.parse_args()))
