"""All evidence of one split of a run, and the design matrix made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from arena.errors import UserError
from arena.run import Run
from arena.tables import read_battles_table
from arena.views import View
from embeddings.evidence import HiddenStates
from meta.probes import CrossFittedProbes, Probe, as_view, unseen_values

HIDDEN = "hidden"
LOGITS = "logits"
"""Part of the name of every view of a fine-tuned model."""


@dataclass(frozen=True)
class Evidence:
    """The sound battles of a split and every view that the run has of them."""

    battles: pd.DataFrame
    tables: dict[str, View]
    """Views that never saw a label, by name."""
    hidden: HiddenStates | None

    @property
    def names(self) -> list[str]:
        """Names of all views, sorted."""
        return sorted([*self.tables, *([HIDDEN] if self.hidden is not None else [])])

    def crossfitted(self, probes: CrossFittedProbes | None, scored: int | None) -> dict[str, View]:
        """Views of the training rows, the supervised ones out of fold, with ``scored`` held out."""
        views = dict(self.tables)
        if self.hidden is not None and probes is not None:
            values = probes.out_of_fold(scored)
            views[HIDDEN] = as_view(self.hidden.ids, values, self.hidden.slots)
        return views

    def unseen(self, probes: Sequence[Mapping[str, Probe]]) -> dict[str, View]:
        """Views of rows that no probe saw."""
        views = dict(self.tables)
        if self.hidden is not None and probes:
            values = unseen_values(probes, self.hidden)
            views[HIDDEN] = as_view(self.hidden.ids, values, self.hidden.slots)
        return views


def without_seen(evidence: Evidence) -> Evidence:
    """The battles whose logits, if there are any, come from a model that never saw their vote.

    A fine-tuning of a single fold (``finetune.py --folds 1``) leaves NaN in all columns of the
    battles that it learned from.
    """
    rows = np.ones(len(evidence.battles), dtype=bool)
    for name, view in evidence.tables.items():
        if LOGITS in name:
            rows &= ~np.isnan(view.values).all(axis=1)
    if rows.all():
        return evidence
    hidden = evidence.hidden
    return Evidence(
        evidence.battles[rows].reset_index(drop=True),
        {name: view.take(rows) for name, view in evidence.tables.items()},
        hidden.take(rows) if hidden is not None else None,
    )


def read_evidence(run: Run, split: str) -> Evidence:
    """Read the battles of ``split`` that are sound and all their views.

    Raises:
        UserError: battles are missing, no view is there, or a view is of other battles.
    """
    battles = read_battles_table(run.require_battles(split))
    battles = battles[battles["reason"] == ""].reset_index(drop=True)
    tables: dict[str, View] = {}
    hidden: HiddenStates | None = None
    for folder in sorted(run.views.iterdir()) if run.views.exists() else []:
        path = folder / f"{split}.parquet"
        if not path.exists():
            continue
        if folder.name == HIDDEN:
            hidden = HiddenStates.read(run.views, split)
        else:
            tables[folder.name] = View.read(path)
    evidence = Evidence(battles, tables, hidden)
    again = f"run `python pipelines/extract.py --{split} FILE --run {run.folder}` again"
    if not evidence.names:
        raise UserError(f"{run.folder} has no views of its {split} battles: {again}")
    ids = battles["id"].tolist()
    for name in evidence.names:
        found = hidden.ids if name == HIDDEN and hidden is not None else tables[name].ids
        if found != ids:
            raise UserError(f"view {name} in {run.folder} is not of its {split} battles: {again}")
    return evidence


def labels_of(battles: pd.DataFrame) -> np.ndarray:
    """Labels as int64 (n,)."""
    return battles["label"].to_numpy(dtype=np.int64)
