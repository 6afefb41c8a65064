"""Supervised projections of the hidden states: one small logistic model a layer and pooling.

A gradient-boosted model on raw states over-fits; what it gets instead is, for each slot (a layer
and a pooling), the log-odds of a regularised symmetric logistic model, always from a model that
never saw the row's prompt group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from arena.views import Column, View
from embeddings.evidence import HiddenStates
from meta.logistic import SymmetricLogistic

STRENGTH = 3e-3
"""Inverse penalty of the probes (scikit-learn's C for unit-scaled columns); docs/LOG.md."""


def pair_columns(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of a pair of states (n, d): a - b, and |a - b| beside a + b; float32."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    return a - b, np.concatenate([np.abs(a - b), a + b], axis=1)


@dataclass(frozen=True)
class Probe:
    """The fitted model of one slot."""

    center: np.ndarray
    """float32 (d,): mean state of the fitted rows; raw cosines are near 1 without it."""
    logistic: SymmetricLogistic

    @classmethod
    def fit(cls, a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> Probe:
        """Fit on the rows of states (n, d) of both answers, and labels (n,), that are finite."""
        known = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
        if not known.all():
            a, b, labels = a[known], b[known], labels[known]
        if not len(labels):
            center = np.zeros(a.shape[1], dtype=np.float32)
            return cls(center, SymmetricLogistic.fit(*pair_columns(a, b), labels, STRENGTH))
        center = (a.mean(axis=0, dtype=np.float32) + b.mean(axis=0, dtype=np.float32)) / 2
        return cls(center, SymmetricLogistic.fit(*pair_columns(a, b), labels, STRENGTH))

    def values(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Side log-odds, tie log-odds and centred cosine of both states; float32 (n, 3)."""
        side, tie = self.logistic.log_odds(*pair_columns(a, b))
        ca, cb = a.astype(np.float32) - self.center, b.astype(np.float32) - self.center
        norm = np.linalg.norm(ca, axis=1) * np.linalg.norm(cb, axis=1)
        cosine = (ca * cb).sum(axis=1) / np.maximum(norm, 1e-6)
        return np.stack([side, tie, cosine], axis=1).astype(np.float32)


def probe_columns(slots: Sequence[str]) -> dict[str, Column]:
    """Columns of the probes' view: three a slot, then the mean of each log-odds over slots."""
    columns: dict[str, Column] = {}
    for slot in [*slots, "mean"]:
        columns[f"{slot}.side"] = Column("anti", "hidden")
        columns[f"{slot}.tie"] = Column("sym", "hidden")
        columns[f"{slot}.cosine"] = Column("sym", "hidden")
    return columns


def with_mean(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Values of ``probe_columns``, of those of each slot, (n, 3) each."""
    return np.concatenate([*blocks, np.mean(blocks, axis=0)], axis=1)


@dataclass
class CrossFittedProbes:
    """Probes for every set of folds left out, each fitted once.

    The probe that leaves out folds {j, k} serves inner fold j while fold k is scored, and inner
    fold k while fold j is scored.
    """

    states: HiddenStates
    labels: np.ndarray
    folds: np.ndarray
    fitted: dict[frozenset[int], dict[str, Probe]] = field(default_factory=dict)

    def without(self, left_out: frozenset[int]) -> dict[str, Probe]:
        """Probes of all slots, fitted on every row outside the folds ``left_out``."""
        for i, slot in enumerate(self.states.slots):
            if slot not in self.fitted.get(left_out, {}):
                self._fit(left_out, slot, *self.states.slot(i))
        return self.fitted[left_out]

    def _fit(self, left_out: frozenset[int], slot: str, a: np.ndarray, b: np.ndarray) -> Probe:
        """The probe of a slot, of whose states (n, d) of all rows it learns from some."""
        fitted = self.fitted.setdefault(left_out, {})
        if slot not in fitted:
            rows = np.flatnonzero(~np.isin(self.folds, list(left_out)))
            fitted[slot] = Probe.fit(a[rows], b[rows], self.labels[rows])
        return fitted[slot]

    def out_of_fold(self, scored: int | None) -> np.ndarray:
        """Values of all rows with fold ``scored`` held out (``None``: nothing is held out).

        A training row gets the probe that left out its fold and ``scored``. A row of ``scored``
        gets the mean over all those probes, none of which saw that fold: as a test row does.
        """
        outer = frozenset() if scored is None else frozenset({scored})
        inner = [int(j) for j in np.unique(self.folds) if j not in outer]
        rows = {j: np.flatnonzero(self.folds == j) for j in inner}
        held = np.flatnonzero(self.folds == scored) if scored is not None else np.array([], int)
        known: dict[int, list[np.ndarray]] = {j: [] for j in inner}
        unknown: dict[int, list[np.ndarray]] = {j: [] for j in inner}
        # Slot by slot: the states of all slots may be more than memory holds.
        for i, slot in enumerate(self.states.slots):
            a, b = self.states.slot(i)
            for j in inner:
                probe = self._fit(outer | {j}, slot, a, b)
                known[j].append(probe.values(a[rows[j]], b[rows[j]]))
                unknown[j].append(probe.values(a[held], b[held]))
        values = np.zeros((len(self.labels), len(probe_columns(self.states.slots))), np.float32)
        for j in inner:
            values[rows[j]] = with_mean(known[j])
            values[held] += with_mean(unknown[j]) / len(inner)
        return values


def unseen_values(models: Sequence[Mapping[str, Probe]], states: HiddenStates) -> np.ndarray:
    """Mean over the folds' probes, for battles none of them saw; float32 (n, d)."""
    blocks: list[list[np.ndarray]] = [[] for _ in models]
    for i, slot in enumerate(states.slots):
        a, b = states.slot(i)
        for model, found in zip(models, blocks, strict=True):
            found.append(model[slot].values(a, b))
    return np.asarray(sum(map(with_mean, blocks)) / len(models), dtype=np.float32)


def as_view(ids: Sequence[str], values: np.ndarray, slots: Sequence[str]) -> View:
    """The probes' values as a view."""
    return View(ids, values, probe_columns(slots))
