"""All evidence of one split of a run, and the design matrix made of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from arena.errors import UserError
from arena.parquet import read_notes
from arena.run import Run
from arena.tables import read_battles_table, texts_hash
from arena.views import View
from meta.learned import LEARNED, CrossFitted, Learned, Model

LOGITS = "logits"
"""Part of the name of every view of a fine-tuned model."""

VERDICT = "verdict"
"""With this begins the name of every view of a zero-shot verdict."""


@dataclass(frozen=True)
class Evidence:
    """The sound battles of a split and every view that the run has of them."""

    battles: pd.DataFrame
    tables: dict[str, View]
    """Views that never saw a label, by name."""
    learned: dict[str, Learned]
    """What the other views are learned from, by name."""

    @property
    def names(self) -> list[str]:
        """Names of all views, sorted."""
        return sorted([*self.tables, *self.learned])

    def take(self, rows: np.ndarray) -> Evidence:
        """The battles at positions ``rows`` (integer array or boolean mask) and their evidence."""
        positions = np.arange(len(self.battles))[rows]
        return Evidence(
            self.battles.iloc[positions].reset_index(drop=True),
            {name: view.take(positions) for name, view in self.tables.items()},
            {name: found.take(positions) for name, found in self.learned.items()},
        )

    def fits(self, folds: np.ndarray) -> dict[str, CrossFitted]:
        """The views that learn, ready to be fitted on these battles' votes; ``folds`` int (n,)."""
        labels = labels_of(self.battles)
        return {name: CrossFitted(found, labels, folds) for name, found in self.learned.items()}

    def crossfitted(self, fits: Mapping[str, CrossFitted], scored: int | None) -> dict[str, View]:
        """Views of the training rows, the learned ones out of fold, with ``scored`` held out."""
        return {**self.tables, **{name: fit.out_of_fold(scored) for name, fit in fits.items()}}

    def unseen(self, models: Mapping[str, Sequence[Model]]) -> dict[str, View]:
        """Views of rows that no model saw."""
        return {
            **self.tables,
            **{
                name: found.unseen(models[name])
                for name, found in self.learned.items()
                if name in models
            },
        }


def without_seen(evidence: Evidence) -> Evidence:
    """The battles whose logits, if there are any, come from a model that never saw their vote.

    A fine-tuning of a single fold (``finetune.py --folds 1``) leaves NaN in all columns of the
    battles that it learned from.
    """
    rows = np.ones(len(evidence.battles), dtype=bool)
    for name, view in evidence.tables.items():
        if LOGITS in name:
            rows &= ~np.isnan(view.values).all(axis=1)
    return evidence if rows.all() else evidence.take(rows)


def read_evidence(run: Run, split: str, views: Collection[str] | None = None) -> Evidence:
    """Read the battles of ``split`` that are sound and their views.

    Args:
        run: the run.
        split: ``train`` or ``test``.
        views: names of the views to read; by default all that the run has.

    Raises:
        UserError: battles are missing, no view is there, a view is of other battles or texts, or
            of the test battles and made otherwise than that of the training battles.
    """
    battles = read_battles_table(run.require_battles(split))
    battles = battles[battles["reason"] == ""].reset_index(drop=True)

    def asked(name: str) -> bool:
        return views is None or name in views

    folders = sorted(run.views.iterdir()) if run.views.exists() else []
    made = [folder.name for folder in folders if (folder / f"{split}.parquet").exists()]
    tables = {
        name: View.read(run.views / name / f"{split}.parquet")
        for name in made
        if name not in LEARNED and asked(name)
    }
    ids, texts = battles["id"].tolist(), texts_hash(battles)

    def check(name: str, found: list[str]) -> None:
        notes = read_notes(run.views / name / f"{split}.parquet") if name in made else None
        if found != ids or (notes is not None and notes.get("battles") != texts):
            raise UserError(
                f"view {name} in {run.folder} is not of its {split} battles: give "
                f"{_command(run, split, name)} again"
            )
        train = run.views / name / "train.parquet"
        if notes and train.exists() and read_notes(train).get("source") != notes.get("source"):
            raise UserError(
                f"view {name} in {run.folder} was made of its test battles by another model, or "
                f"with other settings, than of its training battles: give "
                f"{_command(run, split, name)} again, as for the training battles"
            )

    for name, view in tables.items():
        check(name, view.ids)
    learned: dict[str, Learned] = {}
    for name, kind in LEARNED.items():
        evidence = kind.read(run, split, battles, tables) if asked(name) else None
        if evidence is not None:
            check(name, evidence.ids)
            learned[name] = evidence
    if not made:
        raise UserError(
            f"{run.folder} has no views of its {split} battles: give "
            f"{_command(run, split, 'style')} again"
        )
    for name in views or ():
        if name not in tables and name not in learned:
            raise UserError(
                f"{run.folder} has no view {name} of its {split} battles, but {', '.join(made)}: "
                f"run {_maker(name)} on them, with the same backbone"
            )
    return Evidence(battles, tables, learned)


def _maker(view: str) -> str:
    """The command that makes a view, or what it is learned from."""
    if LOGITS in view:
        return "finetune.py"
    if view.startswith(VERDICT):
        return "verdict.py"
    return LEARNED[view].again if view in LEARNED else Learned.again


def _command(run: Run, split: str, view: str) -> str:
    """How to give that command for the battles of a split."""
    maker = _maker(view)
    option = "" if view in LEARNED else f" --view {view}"
    if maker == Learned.again:
        option = f" --{split} FILE"
    return f"`python pipelines/{maker}{option} --run {run.folder}`"


def labels_of(battles: pd.DataFrame) -> np.ndarray:
    """Labels as int64 (n,)."""
    return battles["label"].to_numpy(dtype=np.int64)
