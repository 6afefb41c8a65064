"""The second stage of a run: figures by nested cross-validation, then the final model.

Nothing has seen the rows that are scored: for each outer fold, views that learn, early stopping,
tuning and calibration use the other folds only. Of very many battles only one fold is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np
from sqlalchemy.engine import URL

from arena.feature_table import FeatureTable
from arena.folds import THRIFTY_FOLDS, fold_of
from common.errors import Code, UserError
from common.run_dir import RunDir
from common.steps import Step
from meta.base_models import CrossFitted
from meta.base_models.baselines import Baselines
from meta.metrics.scores import swap_gap
from meta.stack.dataset import Dataset
from meta.stack.stacker import Stacker, fit_stacker, fits_of, sets_of_views
from meta.stack.trained_model import TrainedModel
from meta.votes import absent_classes, training_votes

MANY_ROWS = 10_000
"""Above, one outer fold is enough, and to nest all of them takes three times as long."""


@dataclass(frozen=True)
class Scored:
    """Predictions of rows that nothing had seen."""

    rows: np.ndarray
    """Positions of the scored rows, (m,)."""
    probabilities: dict[str, np.ndarray]
    """By name (baselines, each view alone, ``meta_uncalibrated``, ``meta``): float64 (m, 3)."""
    swap_gap: float
    design: FeatureTable
    """The design matrix of ``meta`` on the scored rows."""
    one_order: np.ndarray
    """``meta`` from the file's order alone, before both are averaged: float64 (m, 3)."""
    stackers: dict[int, Stacker]
    """The stackers that predicted ``meta``, by outer fold."""


@dataclass(frozen=True)
class Settings:
    """How much work the second stage does.

    Raises:
        UserError: there are fewer than 3 folds, or no bag.
    """

    folds: int = 5
    trials: int = 20
    bags: int = 3
    forest: bool = True
    """Whether a forest is pooled with the boosters."""
    storage: URL | None = None
    """Database of the studies, for several processes; ``None``: the run's own file."""

    def __post_init__(self) -> None:
        if self.folds < 3 or self.bags < 1:
            raise UserError(
                Code.OPTION_INVALID,
                "Nested cross-validation takes at least 3 folds and 1 bag, "
                f"not {self.folds} and {self.bags}.",
            )

    def budget_for(self, name: str) -> Settings:
        """Full for ``meta``; a single view gets one booster of default parameters."""
        return self if name == "meta" else Settings(self.folds, 0, 1, forest=False)


class OutOfFold:
    """Predictions of the scored rows, filled fold by fold."""

    def __init__(self, rows: np.ndarray, total: int) -> None:
        """``rows`` (m,): positions of the scored rows among ``total``."""
        self.rows = rows
        self.probabilities: dict[str, np.ndarray] = {}
        self._position = np.full(total, -1)
        self._position[rows] = np.arange(len(rows))

    def add(self, name: str, rows: np.ndarray, probabilities: np.ndarray) -> None:
        """Add the predictions (k, 3) named ``name`` of the rows at positions ``rows`` (k,)."""
        empty = np.full((len(self.rows), 3), np.nan)
        self.probabilities.setdefault(name, empty)[self._position[rows]] = probabilities


def folds_for(dataset: Dataset, folds: int) -> np.ndarray:
    """Fold of each battle, int (n,), relabelled to those that occur.

    Where the battles are one left-out fold of a fine-tuning, the hashes of their groups are equal
    modulo its number of folds, so the battles are split by a hash of the hash.

    Raises:
        UserError: there are too few prompt groups to cross-validate.
    """
    groups = dataset.battles["group"]
    fold = fold_of(groups, folds)
    if len(np.unique(fold_of(groups, THRIFTY_FOLDS))) == 1:
        fold = fold_of((sha256(g.encode()).hexdigest() for g in groups), folds)
    if len(np.unique(fold)) < 3:
        raise UserError(
            Code.TOO_FEW_BATTLES,
            f"{len(dataset.battles)} valid training battles of {groups.nunique()} prompts are too "
            "few to cross-validate. Use at least some dozens, of different prompts.",
        )
    return np.asarray(np.unique(fold, return_inverse=True)[1])


def outer_folds(folds: np.ndarray) -> list[int]:
    """Outer folds to score: all, or only the first where rows are many."""
    names = [int(f) for f in np.unique(folds)]
    return names[:1] if len(folds) > MANY_ROWS else names


def fits_in_all(folds: np.ndarray, budgets: Sequence[Settings], at_end: bool = True) -> int:
    """How often progress is reported where stackers are trained for each outer fold.

    Args:
        folds: int (n,).
        budgets: how much work each stacker gets.
        at_end: whether they are trained on all rows, too.
    """
    inner = len(np.unique(folds)) - 1
    rounds = [inner] * len(outer_folds(folds)) + [inner + 1] * at_end
    return sum(fits_of(n, budget.trials, budget.forest) for n in rounds for budget in budgets)


def part_scored(metrics: Mapping[str, Any]) -> str:
    """A sentence where not every fold was scored, else "".

    Args:
        metrics: ``metrics.json``.
    """
    outer = metrics.get("outer_folds")
    if outer is None or len(outer["scored"]) == outer["of"]:
        return ""
    return (
        f"Scored on one of {outer['of']} folds, since there are more than {MANY_ROWS:,} battles: "
        f"{metrics['rows']:,} rows."
    )


@dataclass(frozen=True)
class CrossValidation:
    """Training battles in folds, and the views that learn from them, fitted once for all uses."""

    dataset: Dataset
    """The battles, n, and their views."""
    folds: np.ndarray
    """int (n,), see :func:`folds_for`."""
    run: RunDir
    """Keeps the studies that have no database."""
    progress: Callable[[], None] = lambda: None
    """Called for each of :func:`fits_in_all`."""
    step: Step = nullcontext
    """Given the name of a step, the context in which it is done."""
    fits: dict[str, CrossFitted] = field(default_factory=dict)
    """The views that learn; those that are missing are fitted on these battles' votes."""
    outer: Sequence[int] | None = None
    """Folds that those views are fitted to have scored; ``None``: those of :func:`outer_folds`."""

    def __post_init__(self) -> None:
        votes = training_votes(self.dataset.battles)
        outer = outer_folds(self.folds) if self.outer is None else self.outer
        for name, base_model in self.dataset.base_models.items():
            self.fits.setdefault(name, CrossFitted(base_model, votes, self.folds, outer))

    def without(self, view: str) -> CrossValidation:
        """The same without a view; views that never used it are not fitted again."""
        dataset = self.dataset.without(view)
        fits = {
            n: self.fits[n] for n, m in dataset.base_models.items() if m is self.fits[n].evidence
        }
        return replace(self, dataset=dataset, fits=fits)

    def train_stackers(
        self,
        held_out: int | None,
        sets: Mapping[str, Sequence[str]],
        budget: Callable[[str], Settings],
    ) -> Iterator[tuple[str, Stacker, dict[str, FeatureTable]]]:
        """Train a stacker of each set of views on all rows but those of one fold.

        Args:
            held_out: fold that nothing sees; ``None``: all rows are trained on.
            sets: views of each stacker by its name.
            budget: how much work each stacker gets, by its name.

        Yields:
            Name, stacker, and the views of the held-out rows.
        """
        votes = training_votes(self.dataset.battles)
        groups = self.dataset.battles["group"].to_numpy()
        views = dict(self.dataset.tables)
        for name, fit in self.fits.items():
            with self.step(f"view {name}"):
                # A training row gets the value of a fit that did not see its fold.
                views[name] = fit.out_of_fold(held_out)
        val_mask = self.folds == (-1 if held_out is None else held_out)
        train = np.flatnonzero(~val_mask)
        unseen = {name: view.take(val_mask) for name, view in views.items()}
        for name, members in sets.items():
            settings = budget(name)
            stacker = fit_stacker(
                {v: views[v].take(train) for v in members},
                votes[train],
                self.folds[train],
                groups[train],
                trials=settings.trials,
                bags=settings.bags,
                with_forest=settings.forest,
                storage=settings.storage or self.run.study,
                absent=absent_classes(votes),
                progress=self.progress,
                step=self.step if name == "meta" else lambda _: self.step("views alone"),
            )
            yield name, stacker, unseen


def nested(cv: CrossValidation, settings: Settings) -> Scored:
    """Score every row of the outer folds by models that saw nothing of its fold."""
    battles, lengths, folds = cv.dataset.battles, cv.dataset.texts.lengths, cv.folds
    outer = outer_folds(folds)
    rows = np.flatnonzero(np.isin(folds, outer))
    predictions, one_order = OutOfFold(rows, len(folds)), OutOfFold(rows, len(folds))
    votes = training_votes(battles)
    gap = 0.0
    designs: list[tuple[np.ndarray, FeatureTable]] = []
    stackers: dict[int, Stacker] = {}
    sets = sets_of_views(cv.dataset.names)
    for k in outer:
        train, held_out = np.flatnonzero(folds != k), np.flatnonzero(folds == k)
        baselines = Baselines.fit(lengths[train], votes[train], absent_classes(votes))
        for name, probabilities in baselines.predict(lengths[held_out]).items():
            predictions.add(name, held_out, probabilities)
        for name, stacker, views in cv.train_stackers(k, sets, settings.budget_for):
            with cv.step("prediction"):
                design = stacker.design(views)
                predictions.add(name, held_out, stacker.predict(design))
                if name == "meta":
                    predictions.add("meta_uncalibrated", held_out, stacker.uncalibrated(design))
                    one_order.add(name, held_out, stacker.one_order(design))
                    both = stacker.predict(design), stacker.predict(design.swap())
                    gap = max(gap, swap_gap(*both))
                    designs.append((held_out, design))
                    stackers[k] = stacker
    order = np.argsort(np.concatenate([held_out for held_out, _ in designs]))
    values = np.concatenate([design.values for _, design in designs])[order]
    ids = battles["id"].to_numpy()[rows]
    design = FeatureTable(ids.tolist(), values, designs[0][1].columns)
    return Scored(
        rows, predictions.probabilities, gap, design, one_order.probabilities["meta"], stackers
    )


def final(cv: CrossValidation, settings: Settings) -> TrainedModel:
    """Train on all rows, to predict new ones."""
    votes = training_votes(cv.dataset.battles)
    sets = sets_of_views(cv.dataset.names)
    trained = cv.train_stackers(None, sets, settings.budget_for)
    stackers = {name: stacker for name, stacker, _ in trained}
    models = {}
    for name, fit in cv.fits.items():
        with cv.step(f"view {name}"):
            models[name] = fit.on_all()
    return TrainedModel(
        stackers,
        models,
        Baselines.fit(cv.dataset.texts.lengths, votes, absent_classes(votes)),
        cv.dataset.kinds,
    )
