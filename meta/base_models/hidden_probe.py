"""Supervised projections of the hidden states: one small linear model a layer and pooling.

A gradient-boosted model on raw states over-fits; what it gets instead is, for each slot (a layer
and a pooling), two scores of a ridge regression: the share of votes that A has before B, and the
share of ties. Their scale is that of shares, not of log-odds; they are not clipped to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from arena.battle_texts import BattleTexts
from arena.feature_table import Column, FeatureTable
from arena.schema import TIE, A, B
from common.errors import Code, UserError
from common.progress import Progress
from common.run_dir import RunDir
from embeddings.frozen.states import HiddenStates
from meta.base_models import BaseModel, Model, learned_kind, register
from meta.base_models.ridge import RidgeSums
from meta.votes import shares_of, weights_of

PART = 16_384
"""Battles whose states of a slot are read at once: as many as an extraction reads before it begins
the next shards, so that few shards are opened twice."""

BLOCK = 4096
"""Rows that are added to the sums at once, as float32: a Gram matrix is gone through each time."""

FEW = 512
"""Rows whose values are computed at once: larger arrays get new pages of memory each time."""

ORIGIN_ROWS = 100
"""Battles whose median the tie's columns are counted from, so that no single one far out is it."""


def pair_columns(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of a pair of states (n, d): a - b, and |a - b| beside a + b; float32."""
    a, b = a.astype(np.float32, copy=False), b.astype(np.float32, copy=False)
    n, d = a.shape
    anti, sym = a - b, np.empty((n, 2 * d), np.float32)
    np.abs(anti, out=sym[:, :d])
    np.add(a, b, out=sym[:, d:])
    return anti, sym


SOURCE = "source"

PARTS = ("center", "side", "tie", "tie_bias")
"""Of a slot's probe in a model."""

Sums = tuple[RidgeSums, RidgeSums]
"""What the probes of side and tie need of some rows."""


@register
@dataclass(frozen=True)
class HiddenProbe(BaseModel):
    """Probes of the pooled states.

    A model has ``source`` (uint8: the hash of what made the states, as text) and, for each slot,
    ``<slot>/center`` (the mean state (d,); raw cosines are near 1 without it), ``<slot>/side``
    (d,), ``<slot>/tie`` (2 d,) and ``<slot>/tie_bias`` (1,), all float32.
    """

    kind = learned_kind(
        "hidden",
        "what the language model's states say",
        "frozen",
        "extract.py",
        "language_model_train",
    )
    one_pass = True
    penalty: ClassVar[float] = 8.0
    """Of :meth:`meta.base_models.ridge.RidgeSums.solve`; docs/LOG.md."""
    states: HiddenStates

    @property
    def ids(self) -> list[str]:
        """Battle ids, n."""
        return self.states.ids

    @classmethod
    def of_split(
        cls,
        run: RunDir,
        split: str,
        battles: BattleTexts,
        tables: Mapping[str, FeatureTable],
    ) -> Self | None:
        """Probes of the states that a command stored."""
        stored = (run.views / cls.kind.name / f"{split}.parquet").exists()
        return cls(cls.stored_states(run, split)) if stored else None

    @classmethod
    def of_battles(
        cls,
        run: RunDir,
        battles: pd.DataFrame,
        tables: Mapping[str, FeatureTable],
        shared: dict[Any, Any],
    ) -> Self:
        """Probes of the states that the run's language model has of these battles."""
        return cls(cls.computed_states(run, battles, shared))

    @staticmethod
    def stored_states(run: RunDir, split: str) -> HiddenStates:
        """The states of a split, from disk."""
        return HiddenStates.read(run.views, split)

    @staticmethod
    def computed_states(run: RunDir, battles: pd.DataFrame, shared: dict[Any, Any]) -> HiddenStates:
        """The states of any battles, computed."""
        # transformers takes seconds to import.
        from embeddings.frozen.likelihood import language_model_of

        return language_model_of(run, shared).read(battles).states

    @property
    def columns(self) -> dict[str, Column]:
        """Side score, tie score and centred cosine of each slot, then their means."""
        columns: dict[str, Column] = {}
        for slot in [*self.states.slots, "mean"]:
            columns[f"{slot}.side"] = Column("anti", self.kind.name)
            columns[f"{slot}.tie"] = Column("sym", self.kind.name)
            columns[f"{slot}.cosine"] = Column("sym", self.kind.name)
        return columns

    def fit(self, rows: np.ndarray, votes: np.ndarray) -> Model:
        """Fit a probe a slot, on the battles whose states are finite."""
        whole: frozenset[int] = frozenset()
        return self.take(rows).fit_left_out(votes, np.zeros(len(rows), int), [whole])[whole]

    def fit_left_out(
        self, votes: np.ndarray, folds: np.ndarray, sets: Collection[frozenset[int]]
    ) -> dict[frozenset[int], Model]:
        """Probes of the rows outside each set of folds; a slot's states are read once for all."""
        models: dict[frozenset[int], Model] = {s: {SOURCE: self._source()} for s in sets}
        slots = self.states.slots
        with Progress(f"probes of {self.kind.name}", len(slots), "slots", delay=10) as progress:
            for i, slot in enumerate(slots):
                origin, sums = self._sums(i, votes, folds)
                for left_out, model in models.items():
                    kept = [parts for fold, parts in sums.items() if fold not in left_out]
                    fitted = _probe(kept, origin, self.penalty)
                    model |= {f"{slot}/{part}": value for part, value in fitted.items()}
                progress.update()
        return models

    def _sums(
        self, i: int, votes: np.ndarray, folds: np.ndarray
    ) -> tuple[np.ndarray, dict[int, Sums]]:
        """What the tie's columns of a slot are counted from, and the sums of each fold."""
        sums: dict[int, Sums] = {}
        for rows in _parts(len(self.ids)):
            a, b = self.states.part(i, rows)
            if not sums:
                width = a.shape[1]
                origin = np.zeros(2 * width, np.float32)
                sums = {
                    int(fold): (RidgeSums.zeros(width), RidgeSums.zeros(2 * width))
                    for fold in np.unique(folds)
                }
            finite = np.flatnonzero(_finite(a, b))
            if len(finite) and not origin.any():
                # Large values that hardly vary would lose what varies to rounding.
                some = finite[:: max(1, len(finite) // ORIGIN_ROWS)]
                origin = np.median(pair_columns(a[some], b[some])[1], axis=0)
            for fold, of_fold in sums.items():
                seen = finite[folds[rows][finite] == fold]
                for at in range(0, len(seen), BLOCK):
                    block = seen[at : at + BLOCK]
                    _add(of_fold, a[block], b[block], votes[rows][block], origin)
        return origin, sums

    def values(self, model: Model, rows: np.ndarray) -> np.ndarray:
        """Scores and cosines of these battles."""
        return self.values_of([(model, rows)])[0]

    def values_of(self, parts: Sequence[tuple[Model, np.ndarray]]) -> list[np.ndarray]:
        """Scores and cosines by each model; a slot's states are read once for all."""
        if any(not np.array_equal(m.get(SOURCE, ()), self._source()) for m, _ in parts):
            raise UserError(
                Code.VIEW_DIFFERS,
                f"The model was trained on another {self.kind.name} view than the run has now "
                f"(another backbone or other settings). Rerun {self.kind.command} with the "
                "settings of then, or rerun train_meta.py.",
            )
        slots = [self._slot(parts, i, slot) for i, slot in enumerate(self.states.slots)]
        by_model = zip(*slots, strict=True)
        return [np.concatenate([*own, np.mean(own, axis=0)], axis=1) for own in by_model]

    def _source(self) -> np.ndarray:
        return np.array([*self.states.source.encode()], dtype=np.uint8)

    def _slot(
        self, parts: Sequence[tuple[Model, np.ndarray]], i: int, slot: str
    ) -> list[np.ndarray]:
        found = [np.empty((len(rows), 3), np.float32) for _, rows in parts]
        try:
            for block in _parts(len(self.ids)):
                a, b = self.states.part(i, block)
                for (model, rows), values in zip(parts, found, strict=True):
                    inside = np.flatnonzero((rows >= block.start) & (rows < block.stop))
                    values[inside] = _values(model, slot, a, b, rows[inside] - block.start)
            return found
        except (KeyError, ValueError):
            raise UserError(
                Code.VIEW_DIFFERS,
                f"The model was trained on states {slot} of another size. Rerun "
                f"{self.kind.command} with the backbone of then.",
            ) from None

    def take(self, rows: np.ndarray) -> Self:
        """The states of these battles."""
        return type(self)(self.states.take(rows))


def _parts(n: int) -> list[slice]:
    """Slices of n battles that are read one after the other, at least one."""
    return [slice(at, min(at + PART, n)) for at in range(0, max(n, 1), PART)]


def _finite(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which pairs of states (n, d) have no value that is missing or infinite; bool (n,)."""
    finite: np.ndarray = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    return finite


def _add(sums: Sums, a: np.ndarray, b: np.ndarray, votes: np.ndarray, origin: np.ndarray) -> None:
    """Add pairs of states (n, d) and their votes; the tie's columns are counted from origin."""
    side, tie = sums
    anti, sym = pair_columns(a, b)
    shares, weights = shares_of(votes), weights_of(votes)
    side.add(anti, shares[:, A] - shares[:, B], weights)
    sym -= origin
    tie.add(sym, shares[:, TIE], weights)


def _probe(parts: Sequence[Sums], origin: np.ndarray, penalty: float) -> Model:
    """Fit both questions to the rows of all parts; arrays by the names of ``PARTS``."""
    side_sums, tie_sums = map(RidgeSums.total, zip(*parts, strict=True))
    side, _ = side_sums.solve(penalty, intercept=False)
    tie, bias = tie_sums.solve(penalty, intercept=True)
    width = len(side)
    return {
        "center": (origin + tie_sums.mean)[width:] / 2,
        "side": side,
        "tie": tie,
        "tie_bias": np.array([bias - origin @ tie], dtype=np.float32),
    }


def _values(model: Model, slot: str, a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Side score, tie score and centred cosine of the pairs of states at ``rows``; (len(rows), 3).

    Raises:
        KeyError, ValueError: the model has no such slot, or of another size.
    """
    center, side, tie, bias = (model[f"{slot}/{part}"] for part in PARTS)
    values = np.empty((len(rows), 3), np.float32)
    for at in range(0, max(len(rows), 1), FEW):
        block = rows[at : at + FEW]
        x, y = a[block].astype(np.float32), b[block].astype(np.float32)
        anti, sym = pair_columns(x, y)
        x -= center
        y -= center
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        cosine = np.einsum("ij,ij->i", x, y) / np.maximum(norms, 1e-6)
        values[at : at + FEW] = np.stack([anti @ side, sym @ tie + bias, cosine], axis=1)
    return values
