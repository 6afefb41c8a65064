"""Views that learn from the votes, one a file: fitted on some battles, they read any others.

A training row's values always come from a fit that never saw its prompt group. A new view is one
file with one class that :func:`register` decorates; nothing else changes.
"""

from __future__ import annotations

import os
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from arena.battle_texts import BattleTexts
from arena.feature_table import Column, FeatureTable
from arena.view import Architecture, ViewKind
from arena.view import register as register_kind
from common.run_dir import RunDir

AT_ONCE = 4
"""Fits that are made side by side at most; each holds what it learns from."""

Job = TypeVar("Job")
Result = TypeVar("Result")

Model = dict[str, np.ndarray]
"""What a fit has found: named arrays, safetensors on disk."""


class BaseModel(ABC):
    """A view that learns from votes, with what it learns from of n battles."""

    kind: ClassVar[ViewKind]
    of_views: ClassVar[bool] = False
    """Whether it learns from the other views, those that never saw a vote."""
    one_pass: ClassVar[bool] = False
    """Whether the fits of many sets of left-out folds cost little more than one of them."""

    @property
    @abstractmethod
    def ids(self) -> list[str]:
        """Battle ids, n, in the battles' order."""

    @classmethod
    def of(cls, battles: BattleTexts, tables: Mapping[str, FeatureTable]) -> BaseModel | None:
        """The base model of battles whose texts and tables are all that it learns from.

        Args:
            battles: n valid ones, whose texts are read part by part and not kept.
            tables: their views that never saw a vote.

        Returns:
            ``None`` where there is nothing to learn from.
        """
        raise NotImplementedError

    @classmethod
    def of_split(
        cls,
        run: RunDir,
        split: str,
        battles: BattleTexts,
        tables: Mapping[str, FeatureTable],
    ) -> BaseModel | None:
        """The base model of a split's battles, from what the run has on disk.

        Raises:
            UserError: the evidence cannot be read.
        """
        return cls.of(battles, tables)

    @classmethod
    def of_battles(
        cls,
        run: RunDir,
        battles: pd.DataFrame,
        tables: Mapping[str, FeatureTable],
        shared: dict[Any, Any],
    ) -> BaseModel | None:
        """The base model of any battles, whose evidence is computed as the run's was.

        Args:
            run: the run.
            battles: canonical table of n valid rows.
            tables: their views that never saw a vote.
            shared: what views of one run have in common, see ``arena.view.View.of_run``.

        Raises:
            UserError: what it takes cannot be had.
        """
        return cls.of(BattleTexts(battles), tables)

    def without(self, view: str) -> BaseModel | None:
        """The same with nothing of another view in it; ``None`` where nothing is left."""
        return self

    @property
    @abstractmethod
    def columns(self) -> dict[str, Column]:
        """Columns of the view, d."""

    @abstractmethod
    def fit(self, rows: np.ndarray, votes: np.ndarray) -> Model:
        """Learn from the battles at positions ``rows`` (m,); several threads may do so at once.

        Args:
            rows: int (m,).
            votes: on these rows, labels (m,) or weighted shares (m, 3), see ``meta.votes``.
        """

    def fit_left_out(
        self, votes: np.ndarray, folds: np.ndarray, sets: Collection[frozenset[int]]
    ) -> dict[frozenset[int], Model]:
        """For each set of folds, a fit of every row outside them.

        Args:
            votes: of all n battles.
            folds: fold of each battle, int (n,).
            sets: each leaves some fold in.
        """

        def fit(left_out: frozenset[int]) -> Model:
            rows = np.flatnonzero(~np.isin(folds, list(left_out)))
            return self.fit(rows, votes[rows])

        return dict(zip(sets, side_by_side(fit, sets), strict=True))

    @abstractmethod
    def values(self, model: Model, rows: np.ndarray) -> np.ndarray:
        """Values of the battles at positions ``rows``; float32 (len(rows), d).

        Raises:
            UserError: the model is of other evidence.
        """

    def values_of(self, parts: Sequence[tuple[Model, np.ndarray]]) -> list[np.ndarray]:
        """Values by each model of the battles at the positions beside it, as of :meth:`values`."""
        return side_by_side(lambda part: self.values(*part), parts)

    @abstractmethod
    def take(self, rows: np.ndarray) -> BaseModel:
        """The evidence of the battles at positions ``rows`` (integer array or boolean mask)."""

    def unseen(self, model: Model) -> FeatureTable:
        """The view of battles that the model did not see.

        Raises:
            UserError: the model is of other evidence.
        """
        return FeatureTable(self.ids, self.values(model, np.arange(len(self.ids))), self.columns)


def side_by_side(function: Callable[[Job], Result], jobs: Collection[Job]) -> list[Result]:
    """Apply a function to each job in threads, with one thread of linear algebra in each.

    Results do not depend on the number of threads.
    """
    workers = max(1, min(os.cpu_count() or 1, AT_ONCE, len(jobs)))
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        try:
            return list(pool.map(function, jobs))
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass
class CrossFitted:
    """Fits of one view for every set of folds left out, each made once.

    The fit that leaves out folds {j, k} serves inner fold j while fold k is scored, and inner fold
    k while fold j is scored.
    """

    evidence: BaseModel
    votes: np.ndarray
    folds: np.ndarray
    outer: Sequence[int] | None = None
    """Folds that are scored in turn; ``None``: all of them."""
    fitted: dict[frozenset[int], Model] = field(default_factory=dict)

    def without(self, left_out: frozenset[int]) -> Model:
        """The fit of every row outside the folds ``left_out``."""
        self._fit({left_out})
        return self.fitted[left_out]

    def _fit(self, wanted: set[frozenset[int]]) -> None:
        """Make those of the fits that are not there, with all others where they cost little."""
        missing = wanted - self.fitted.keys()
        if missing and self.evidence.one_pass:
            missing |= self._sets() - self.fitted.keys()
        if missing:
            self.fitted |= self.evidence.fit_left_out(self.votes, self.folds, missing)

    def on_all(self) -> Model:
        """The fit of every row: what a final model keeps for new battles."""
        return self.without(frozenset())

    def out_of_fold(self, scored: int | None) -> FeatureTable:
        """The view of all rows with fold ``scored`` held out (``None``: nothing is held out).

        A training row gets the fit that left out its fold and ``scored``. A row of ``scored`` gets
        the fit of all others, as a test row gets that of all rows.
        """
        outer = frozenset() if scored is None else frozenset({scored})
        columns = self.evidence.columns
        values = np.zeros((len(self.votes), len(columns)), np.float32)
        folds = [int(j) for j in np.unique(self.folds)]
        self._fit({outer | {j} for j in folds})
        parts = [(self.fitted[outer | {j}], np.flatnonzero(self.folds == j)) for j in folds]
        for (_, rows), own in zip(parts, self.evidence.values_of(parts), strict=True):
            values[rows] = own
        return FeatureTable(self.evidence.ids, values, columns)

    def _sets(self) -> set[frozenset[int]]:
        """The sets of folds that are left out where each of ``outer`` is scored, and at the end."""
        folds = [int(j) for j in np.unique(self.folds)]
        outer = folds if self.outer is None else self.outer
        return {frozenset(), *(frozenset({j, k}) for j in folds for k in (j, *outer))}


BASE_MODELS: dict[str, type[BaseModel]] = {}
"""Every view that learns, by name."""

L = TypeVar("L", bound=type[BaseModel])


def register(base_model: L) -> L:
    """Class decorator: make the view known."""
    BASE_MODELS[base_model.kind.name] = base_model
    register_kind(base_model.kind)
    return base_model


def learned_kind(
    name: str, title: str, architecture: Architecture, command: str, seconds: str = ""
) -> ViewKind:
    """The kind of a base model; a run has one view of it, under the same name."""
    view_class = "meta.stack.model_io:TrainedBaseModel"
    return ViewKind(name, title, architecture, command, view_class, True, seconds)


for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
