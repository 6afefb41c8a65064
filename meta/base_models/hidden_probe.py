"""Supervised projections of the hidden states: one small logistic model a layer and pooling.

A gradient-boosted model on raw states over-fits; what it gets instead is, for each slot (a layer
and a pooling), the log-odds of a regularised symmetric logistic model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from arena.feature_table import Column, FeatureTable
from common.errors import Code, UserError
from common.run_dir import RunDir
from embeddings.frozen.states import HiddenStates
from meta.base_models import BaseModel, Model, learned_kind, register
from meta.base_models.symmetric_logistic import SymmetricLogistic


def pair_columns(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of a pair of states (n, d): a - b, and |a - b| beside a + b; float32."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    return a - b, np.concatenate([np.abs(a - b), a + b], axis=1)


SOURCE = "source"


@register
@dataclass(frozen=True)
class HiddenProbe(BaseModel):
    """Probes of the pooled states.

    A model has ``source`` (uint8: the hash of what made the states, as text) and, for each slot,
    ``<slot>/center`` (the mean state, float32 (d,); raw cosines are near 1 without it) and the
    weights of a :class:`meta.base_models.symmetric_logistic.SymmetricLogistic`.
    """

    kind = learned_kind(
        "hidden",
        "what the language model's states say",
        "frozen",
        "extract.py",
        "language_model_train",
    )
    C: ClassVar[float] = 3e-3
    """Inverse penalty of the probes (scikit-learn's C for unit-scaled columns); docs/LOG.md."""
    states: HiddenStates

    @property
    def ids(self) -> list[str]:
        """Battle ids, n."""
        return self.states.ids

    @classmethod
    def of_split(
        cls, run: RunDir, split: str, battles: pd.DataFrame, tables: Mapping[str, FeatureTable]
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
        """Side log-odds, tie log-odds and centred cosine of each slot, then their means."""
        columns: dict[str, Column] = {}
        for slot in [*self.states.slots, "mean"]:
            columns[f"{slot}.side"] = Column("anti", self.kind.name)
            columns[f"{slot}.tie"] = Column("sym", self.kind.name)
            columns[f"{slot}.cosine"] = Column("sym", self.kind.name)
        return columns

    def fit(self, rows: np.ndarray, votes: np.ndarray) -> Model:
        """Fit a probe a slot, on the battles whose states are finite."""
        model: Model = {SOURCE: self._source()}
        for i, slot in enumerate(self.states.slots):
            a, b = (states[rows] for states in self.states.slot(i))
            known = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
            a, b = a[known], b[known]
            center = np.zeros(a.shape[1], dtype=np.float32)
            if len(a):
                center = (a.mean(axis=0, dtype=np.float32) + b.mean(axis=0, dtype=np.float32)) / 2
            fitted = SymmetricLogistic.fit(*pair_columns(a, b), votes[known], self.C)
            model[f"{slot}/center"] = center
            model |= {f"{slot}/{part}": value for part, value in fitted.arrays().items()}
        return model

    def values(self, model: Model, rows: np.ndarray) -> np.ndarray:
        """Log-odds and cosines of these battles."""
        if not np.array_equal(model.get(SOURCE, ()), self._source()):
            raise UserError(
                Code.VIEW_DIFFERS,
                f"The model was trained on another {self.kind.name} view than the run has now "
                f"(another backbone or other settings). Rerun {self.kind.command} with the "
                "settings of then, or rerun train_meta.py.",
            )
        blocks = [self._slot(model, i, slot, rows) for i, slot in enumerate(self.states.slots)]
        return np.concatenate([*blocks, np.mean(blocks, axis=0)], axis=1)

    def _source(self) -> np.ndarray:
        return np.array([*self.states.source.encode()], dtype=np.uint8)

    def _slot(self, model: Model, i: int, slot: str, rows: np.ndarray) -> np.ndarray:
        a, b = (states[rows] for states in self.states.slot(i))
        try:
            center = model[f"{slot}/center"]
            logistic = SymmetricLogistic.of(model, f"{slot}/")
            side, tie = logistic.log_odds(*pair_columns(a, b))
        except (KeyError, ValueError):
            raise UserError(
                Code.VIEW_DIFFERS,
                f"The model was trained on states {slot} of another size. Rerun "
                f"{self.kind.command} with the backbone of then.",
            ) from None
        ca, cb = a.astype(np.float32) - center, b.astype(np.float32) - center
        norm = np.linalg.norm(ca, axis=1) * np.linalg.norm(cb, axis=1)
        cosine = (ca * cb).sum(axis=1) / np.maximum(norm, 1e-6)
        return np.stack([side, tie, cosine], axis=1).astype(np.float32)

    def take(self, rows: np.ndarray) -> Self:
        """The states of these battles."""
        return type(self)(self.states.take(rows))
