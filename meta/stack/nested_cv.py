"""The second stage of a run: honest figures by nested cross-validation, then the final model.

Scored rows are unseen by everything: for each outer fold, learned views, early stopping, tuning and
calibration work on the other folds only. Of very many battles one fold alone is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np
from sqlalchemy.engine import URL

from arena.feature_table import FeatureTable
from arena.folds import THRIFTY_FOLDS, fold_of
from common.errors import Code, UserError
from common.run_dir import RunDir
from meta.base_models import CrossFitted, Model
from meta.base_models.baselines import Baselines
from meta.metrics.scores import swap_gap
from meta.stack.dataset import Dataset, labels_of
from meta.stack.stacker import Stacker, fit_stacker, sets_of_views

MANY_ROWS = 20_000
"""Above, one outer fold tells enough, and nesting all of them would cost a day."""


@dataclass(frozen=True)
class Scored:
    """Predictions of rows that nothing had seen."""

    rows: np.ndarray
    """Positions of the scored rows, (m,)."""
    probabilities: dict[str, np.ndarray]
    """By name (nulls, each view alone, ``meta_uncalibrated``, ``meta``): float64 (m, 3)."""
    swap_gap: float
    design: FeatureTable
    """What ``meta`` saw of the scored rows."""
    one_order: np.ndarray
    """``meta`` from the file's order alone, before both are averaged: float64 (m, 3)."""
    fusions: dict[int, Stacker]
    """What scored as ``meta``, by outer fold."""


@dataclass(frozen=True)
class TrainedModel:
    """Everything that ``submit.py`` needs."""

    fusions: dict[str, Stacker]
    learned: dict[str, list[Model]]
    """Of each view that learns, a model a fold."""
    nulls: Baselines

    @property
    def views(self) -> tuple[str, ...]:
        """The views that it was trained on."""
        return self.fusions["meta"].views


@dataclass(frozen=True)
class Settings:
    """How much work the second stage does."""

    folds: int = 5
    trials: int = 20
    bags: int = 3
    storage: URL | None = None
    """Database of the studies, for several processes; ``None``: the run's own file."""

    def budget_for(self, name: str) -> Settings:
        """What a fusion is worth: ``meta`` all of it, a view alone neither trials nor a bag."""
        return self if name == "meta" else Settings(self.folds, 0, 1)


class OutOfFold:
    """Forecasts of the scored rows, filled fold by fold."""

    def __init__(self, rows: np.ndarray, total: int) -> None:
        """``rows`` (m,): positions of the scored rows among ``total``."""
        self.rows = rows
        self.probabilities: dict[str, np.ndarray] = {}
        self._place = np.full(total, -1)
        self._place[rows] = np.arange(len(rows))

    def put(self, name: str, rows: np.ndarray, found: np.ndarray) -> None:
        """Put in the forecast ``name``, (k, 3), of the rows at positions ``rows`` (k,)."""
        shape = (len(self.rows), 3)
        self.probabilities.setdefault(name, np.full(shape, np.nan))[self._place[rows]] = found


def folds_for(evidence: Dataset, folds: int) -> np.ndarray:
    """Fold of each battle, int (n,), relabelled to those that occur.

    Where the battles are what one fold of a fine-tuning left out their names have a remainder in
    common, and a hash of the group's name parts them.

    Raises:
        UserError: there are fewer than 3 folds, or too few prompt groups to cross-validate.
    """
    if folds < 3:
        raise UserError(
            Code.OPTION_INVALID, f"--folds {folds}: nested cross-validation takes 3 at least"
        )
    groups = evidence.battles["group"]
    found = fold_of(groups, folds)
    if len(np.unique(fold_of(groups, THRIFTY_FOLDS))) == 1:
        found = fold_of((sha256(g.encode()).hexdigest() for g in groups), folds)
    if len(np.unique(found)) < 3:
        raise UserError(
            Code.TOO_FEW_BATTLES,
            f"{len(evidence.battles)} sound training battles of "
            f"{evidence.battles['group'].nunique()} prompts are too few to cross-validate: "
            "give at least some dozens with different prompts",
        )
    return np.asarray(np.unique(found, return_inverse=True)[1])


def outer_folds(folds: np.ndarray) -> list[int]:
    """Outer folds to score: all, or the first alone where rows are many."""
    names = [int(f) for f in np.unique(folds)]
    return names[:1] if len(folds) > MANY_ROWS else names


def part_scored(found: Mapping[str, Any]) -> str:
    """A sentence where not every fold was scored, else "".

    Args:
        found: ``metrics.json``.
    """
    outer = found.get("outer_folds")
    if outer is None or len(outer["scored"]) == outer["of"]:
        return ""
    return (
        f"Scored on one of {outer['of']} folds, since there are more than {MANY_ROWS:,} battles: "
        f"{found['rows']:,} rows."
    )


@dataclass(frozen=True)
class CrossValidation:
    """Training battles in folds, and what learns from them: every second stage shares it."""

    evidence: Dataset
    """The battles, n, and their views."""
    folds: np.ndarray
    """int (n,), see :func:`folds_for`."""
    run: RunDir
    """Keeps the studies that have no database."""
    progress: Callable[[], None] = lambda: None
    """Called for each trial and each fusion."""
    fits: dict[str, CrossFitted] = field(default_factory=dict)
    """The views that learn; those that are not given are fitted on these battles' votes."""

    def __post_init__(self) -> None:
        labels = labels_of(self.evidence.battles)
        for name, found in self.evidence.learned.items():
            self.fits.setdefault(name, CrossFitted(found, labels, self.folds))

    def without(self, view: str) -> CrossValidation:
        """The same with nothing of a view in it; what never knew that view is not fitted again."""
        evidence = self.evidence.without(view)
        fits = {n: self.fits[n] for n, f in evidence.learned.items() if f is self.fits[n].evidence}
        return replace(self, evidence=evidence, fits=fits)

    def trained(
        self,
        scored: int | None,
        sets: Mapping[str, Sequence[str]],
        work: Callable[[str], Settings],
    ) -> Iterator[tuple[str, Stacker, dict[str, FeatureTable]]]:
        """Train a fusion of each set of views on all rows but those of the fold ``scored``.

        Args:
            scored: fold that nothing sees; ``None``: all rows are trained on.
            sets: views of each fusion by its name.
            work: how much work each fusion is worth, by its name.

        Yields:
            Name, fusion, and the views of the rows of ``scored``.
        """
        labels = labels_of(self.evidence.battles)
        groups = self.evidence.battles["group"].to_numpy()
        views = self.evidence.crossfitted(self.fits, scored)
        held = self.folds == (-1 if scored is None else scored)
        train = np.flatnonzero(~held)
        unseen = {name: view.take(held) for name, view in views.items()}
        for name, members in sets.items():
            settings = work(name)
            fusion = fit_stacker(
                {v: views[v].take(train) for v in members},
                labels[train],
                self.folds[train],
                groups[train],
                trials=settings.trials,
                bags=settings.bags,
                storage=settings.storage or self.run.study,
                progress=self.progress,
            )
            yield name, fusion, unseen


def nested(cv: CrossValidation, settings: Settings) -> Scored:
    """Score every row of the outer folds by models that saw nothing of its fold."""
    evidence, folds = cv.evidence, cv.folds
    outer = outer_folds(folds)
    rows = np.flatnonzero(np.isin(folds, outer))
    table, as_given = OutOfFold(rows, len(folds)), OutOfFold(rows, len(folds))
    labels = labels_of(evidence.battles)
    gap = 0.0
    designs: list[tuple[np.ndarray, FeatureTable]] = []
    fusions: dict[int, Stacker] = {}
    sets = sets_of_views(evidence.names)
    for k in outer:
        train, held = np.flatnonzero(folds != k), np.flatnonzero(folds == k)
        nulls = Baselines.fit(evidence.battles.iloc[train], labels[train])
        for name, found in nulls.predict(evidence.battles.iloc[held]).items():
            table.put(name, held, found)
        for name, fusion, views in cv.trained(k, sets, settings.budget_for):
            design = fusion.design(views)
            table.put(name, held, fusion.predict(design))
            if name == "meta":
                table.put("meta_uncalibrated", held, fusion.uncalibrated(design))
                as_given.put(name, held, fusion.one_order(design))
                gap = max(gap, swap_gap(fusion.predict(design), fusion.predict(design.swap())))
                designs.append((held, design))
                fusions[k] = fusion
    order = np.argsort(np.concatenate([held for held, _ in designs]))
    values = np.concatenate([design.values for _, design in designs])[order]
    ids = evidence.battles["id"].to_numpy()[rows]
    design = FeatureTable(ids.tolist(), values, designs[0][1].columns)
    one_order = as_given.probabilities["meta"]
    return Scored(rows, table.probabilities, gap, design, one_order, fusions)


def final(cv: CrossValidation, settings: Settings) -> TrainedModel:
    """Train on all rows, for rows that are not here yet."""
    evidence = cv.evidence
    found = cv.trained(None, sets_of_views(evidence.names), settings.budget_for)
    fusions = {name: fusion for name, fusion, _ in found}
    models = {name: fit.models() for name, fit in cv.fits.items()}
    return TrainedModel(
        fusions, models, Baselines.fit(evidence.battles, labels_of(evidence.battles))
    )
