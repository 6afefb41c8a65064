"""All evidence of one split of a run, and the design matrix made of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from arena.battle_table import read_battles_table, texts_hash
from arena.feature_table import FeatureTable
from arena.folds import THRIFTY_FOLDS, fold_of
from common.errors import Code, UserError
from common.parquet import read_notes
from common.run_dir import RunDir
from meta.base_models import BASE_MODELS, BaseModel, CrossFitted, Model

LOGITS = "logits"
"""Part of the name of every view of a fine-tuned model."""

VERDICT = "verdict"
"""With this begins the name of every view of a zero-shot verdict."""


@dataclass(frozen=True)
class Dataset:
    """The sound battles of a split and every view that the run has of them."""

    battles: pd.DataFrame
    tables: dict[str, FeatureTable]
    """Views that are what they are for every fold that is scored, by name: those that never saw a
    label, and logits, which never saw that of their own prompt group."""
    learned: dict[str, BaseModel]
    """What the other views are learned from, by name."""

    @property
    def names(self) -> list[str]:
        """Names of all views, sorted."""
        return sorted([*self.tables, *self.learned])

    def take(self, rows: np.ndarray) -> Dataset:
        """The battles at positions ``rows`` (integer array or boolean mask) and their evidence."""
        positions = np.arange(len(self.battles))[rows]
        return Dataset(
            self.battles.iloc[positions].reset_index(drop=True),
            {name: view.take(positions) for name, view in self.tables.items()},
            {name: found.take(positions) for name, found in self.learned.items()},
        )

    def without(self, view: str) -> Dataset:
        """The evidence with nothing of a view in it, not even in what other views learn from."""
        less = {n: found.without(view) for n, found in self.learned.items() if n != view}
        return Dataset(
            self.battles,
            {name: table for name, table in self.tables.items() if name != view},
            {name: found for name, found in less.items() if found is not None},
        )

    def crossfitted(
        self, fits: Mapping[str, CrossFitted], scored: int | None
    ) -> dict[str, FeatureTable]:
        """Views of the training rows, the learned ones out of fold, with ``scored`` held out."""
        return {**self.tables, **{name: fit.out_of_fold(scored) for name, fit in fits.items()}}

    def unseen(self, models: Mapping[str, Sequence[Model]]) -> dict[str, FeatureTable]:
        """Views of rows that no model saw."""
        return {
            **self.tables,
            **{
                name: found.unseen(models[name])
                for name, found in self.learned.items()
                if name in models
            },
        }


def without_seen(evidence: Dataset) -> Dataset:
    """The battles whose logits, if there are any, come from a model that never saw their vote.

    A fine-tuning of a single fold (``finetune.py --folds 1``) gives no logits to the battles that
    it learned from. A battle that lacks them for another reason stays, with NaN.
    """
    left_out = fold_of(evidence.battles["group"], THRIFTY_FOLDS) == 0
    for name, view in evidence.tables.items():
        if LOGITS in name and np.isnan(view.values[~left_out]).all():
            return evidence if left_out.all() else evidence.take(left_out)
    return evidence


def read_dataset(run: RunDir, split: str, views: Collection[str] | None = None) -> Dataset:
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
        name: FeatureTable.read(run.views / name / f"{split}.parquet")
        for name in made
        if name not in BASE_MODELS and asked(name)
    }
    ids, texts = battles["id"].tolist(), texts_hash(battles)

    def check(name: str, found: list[str]) -> None:
        notes = read_notes(run.views / name / f"{split}.parquet") if name in made else None
        if found != ids or (notes is not None and notes.get("battles") != texts):
            raise UserError(
                Code.VIEW_OUTDATED,
                f"View {name} in {run.folder} was computed from other {split} battles. "
                f"Recompute it: {_command(run, split, name)}",
            )
        train = run.views / name / "train.parquet"
        other = split != "train" and train.exists()
        if notes and other and read_notes(train).get("source") != notes.get("source"):
            raise UserError(
                Code.VIEW_DIFFERS,
                f"View {name} in {run.folder} was computed from its test battles by another model, "
                "or with other settings, than from its training battles. Recompute it as for "
                f"those: {_command(run, split, name)}",
            )

    for name, view in tables.items():
        check(name, view.ids)
    learned: dict[str, BaseModel] = {}
    blind = {name: view for name, view in tables.items() if LOGITS not in name}
    for name, kind in BASE_MODELS.items():
        evidence = kind.read(run, split, battles, blind) if asked(name) else None
        if evidence is not None:
            check(name, evidence.ids)
            learned[name] = evidence
    if not made:
        raise UserError(
            Code.VIEW_MISSING,
            f"{run.folder} has no views of its {split} battles. Compute them: "
            f"{_command(run, split, 'style')}",
        )
    for name in views or ():
        if name not in tables and name not in learned:
            others = [other for other in made if other not in BASE_MODELS]
            if name in BASE_MODELS and BASE_MODELS[name].of_views and others and not tables:
                raise UserError(
                    Code.VIEW_WITHOUT_SOURCE,
                    f"View {name} is learned from other views, and none of them is named. "
                    f"Name at least one of {', '.join(others)} too.",
                )
            raise UserError(
                Code.VIEW_MISSING,
                f"{run.folder} has no view {name} of its {split} battles, but {', '.join(made)}. "
                f"Run {_maker(name)} on them, with the same backbone.",
            )
    return Dataset(battles, tables, learned)


def _maker(view: str) -> str:
    """The command that makes a view, or what it is learned from."""
    if LOGITS in view:
        return "finetune.py"
    if view.startswith(VERDICT):
        return "verdict.py"
    return BASE_MODELS[view].again if view in BASE_MODELS else BaseModel.again


def _command(run: RunDir, split: str, view: str) -> str:
    """How to give that command for the battles of a split."""
    maker = _maker(view)
    option = "" if view in BASE_MODELS else f" --view {view}"
    if maker == BaseModel.again:
        option = f" --{split} FILE"
    return f"`python pipelines/{maker}{option} --run {run.folder}`"


def labels_of(battles: pd.DataFrame) -> np.ndarray:
    """Labels as int64 (n,)."""
    return battles["label"].to_numpy(dtype=np.int64)
