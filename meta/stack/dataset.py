"""All evidence about a table of battles: what the stacker is trained on, and predicts from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from arena.battle_table import read_without_texts, texts_hash
from arena.battle_texts import BattleTexts
from arena.feature_table import FeatureTable
from arena.folds import THRIFTY_FOLDS, fold_of
from arena.view import KINDS, STYLE, ViewKind, kind_named, view_of_run
from common.errors import Code, UserError
from common.parquet import read_notes
from common.run_dir import RunDir
from embeddings.view_kinds import LOGITS, VERDICT
from meta.base_models import BASE_MODELS, BaseModel, Model


@dataclass(frozen=True)
class Dataset:
    """The valid battles of a split, or any others, and every view of them."""

    battles: pd.DataFrame
    """The canonical table; of a run's battles without the columns of texts."""
    texts: BattleTexts
    """The same battles with their texts, part by part."""
    tables: dict[str, FeatureTable]
    """Views that are the same for every fold that is scored, by name: those that never saw a vote,
    and logits, which never saw that of their own prompt group."""
    base_models: dict[str, BaseModel]
    """The views that are learned from votes, by name."""
    table_kinds: dict[str, ViewKind] = field(default_factory=dict)
    """Kinds of ``tables``; one that is not here is the only view of the kind of its name."""

    @property
    def names(self) -> list[str]:
        """Names of all views, sorted."""
        return sorted([*self.tables, *self.base_models])

    @property
    def kinds(self) -> dict[str, ViewKind]:
        """Kinds of all views, by name, sorted."""
        return {name: self.table_kinds.get(name) or KINDS[name] for name in self.names}

    def take(self, rows: np.ndarray) -> Dataset:
        """The battles at positions ``rows`` (integer array or boolean mask) and their views."""
        positions = np.arange(len(self.battles))[rows]
        return Dataset(
            self.battles.iloc[positions].reset_index(drop=True),
            self.texts.take(positions),
            {name: table.take(positions) for name, table in self.tables.items()},
            {name: model.take(positions) for name, model in self.base_models.items()},
            self.table_kinds,
        )

    def without(self, view: str) -> Dataset:
        """The dataset with nothing of a view in it, not even in what base models learn from."""
        others = {name: model for name, model in self.base_models.items() if name != view}
        reduced = {name: model.without(view) for name, model in others.items()}
        return Dataset(
            self.battles,
            self.texts,
            {name: table for name, table in self.tables.items() if name != view},
            {name: model for name, model in reduced.items() if model is not None},
            self.table_kinds,
        )

    def unseen(self, models: Mapping[str, Model]) -> dict[str, FeatureTable]:
        """Views of rows that no model saw."""
        return {
            **self.tables,
            **{
                name: base_model.unseen(models[name])
                for name, base_model in self.base_models.items()
                if name in models
            },
        }


def without_seen(dataset: Dataset) -> Dataset:
    """The battles whose logits, if there are any, come from a judge that never saw their vote.

    A fine-tuning of a single fold (``finetune.py --folds 1``) gives no logits to the battles that
    it learned from. A battle that lacks them for another reason stays, with NaN.
    """
    val_mask = fold_of(dataset.battles["group"], THRIFTY_FOLDS) == 0
    for name, table in dataset.tables.items():
        if dataset.kinds[name].sees_votes and np.isnan(table.values[~val_mask]).all():
            return dataset if val_mask.all() else dataset.take(val_mask)
    return dataset


def training_part(dataset: Dataset) -> Dataset:
    """The battles that the second stage learns from: of a weight above 0, and taught no judge."""
    weights = dataset.battles["weight"].to_numpy()
    return without_seen(dataset if (weights > 0).all() else dataset.take(weights > 0))


def stored_kinds(run: RunDir, split: str) -> dict[str, ViewKind]:
    """The kind of every view that a run has of a split on disk, by name, sorted.

    Raises:
        UserError: a file does not say what it is.
    """
    folders = sorted(run.views.iterdir()) if run.views.exists() else []
    paths = {folder.name: folder / f"{split}.parquet" for folder in folders}
    return {
        name: _stored_kind(run, name, read_notes(path).get("kind", ""))
        for name, path in paths.items()
        if path.exists()
    }


def _stored_kind(run: RunDir, name: str, noted: str) -> ViewKind:
    """The kind that a view's file notes; a file of before there was that note is in run.json."""
    if noted:
        return kind_named(noted)
    record = run.read_record()
    for kind, section in ((LOGITS, "finetune"), (VERDICT, "verdict")):
        if name in record.get(section, {}):
            return kind
    if name in KINDS:
        return KINDS[name]
    raise UserError(
        Code.VIEW_KIND_UNKNOWN,
        f"View {name} in {run.folder} does not say of which kind it is. Recompute it, or "
        "delete its folder.",
    )


def read_dataset(run: RunDir, split: str, views: Collection[str] | None = None) -> Dataset:
    """Read the valid battles of ``split`` and their views from a run.

    Args:
        run: the run.
        split: ``train`` or ``test``.
        views: names of the views to read; by default all that the run has.

    Raises:
        UserError: battles are missing, no view is there, a view is of other battles or texts, or
            of the test battles and made otherwise than that of the training battles.
    """
    path = run.require_battles(split)
    table = read_without_texts(path)
    valid = np.flatnonzero(table["reason"] == "")
    battles, texts = table.iloc[valid].reset_index(drop=True), BattleTexts(path, valid)
    kinds = stored_kinds(run, split)
    if not kinds:
        raise UserError(
            Code.VIEW_MISSING,
            f"{run.folder} has no views of its {split} battles. Compute them: "
            f"{_command(run, split, STYLE.name, STYLE)}",
        )

    def wanted(name: str) -> bool:
        return views is None or name in views

    tables = {
        name: FeatureTable.read(run.views / name / f"{split}.parquet")
        for name in kinds
        if name not in BASE_MODELS and wanted(name)
    }
    vote_free = {name: table for name, table in tables.items() if not kinds[name].sees_votes}
    base_models: dict[str, BaseModel] = {}
    for name, base_model in BASE_MODELS.items():
        of_split = base_model.of_split(run, split, texts, vote_free) if wanted(name) else None
        if of_split is not None:
            base_models[name] = of_split
    ids = {name: view.ids for name, view in (tables | base_models).items()}
    _check_provenance(run, split, battles, kinds, ids)
    _check_wanted(run, split, kinds, views or (), [*tables, *base_models])
    return Dataset(battles, texts, tables, base_models, {name: kinds[name] for name in tables})


def compute_dataset(
    run: RunDir,
    battles: pd.DataFrame,
    kinds: Mapping[str, ViewKind],
    shared: dict[Any, Any],
) -> Dataset:
    """Compute the views of any battles, as the run's own were computed.

    Args:
        run: the run.
        battles: canonical table of n valid rows.
        kinds: the views to compute and their kinds, by name.
        shared: what views of one run have in common, see ``arena.view.View.of_run``.

    Raises:
        UserError: what a view takes cannot be had.
    """
    tables = {
        name: view_of_run(run, name, kind, shared).transform(battles)
        for name, kind in kinds.items()
        if name not in BASE_MODELS
    }
    vote_free = {name: table for name, table in tables.items() if not kinds[name].sees_votes}
    computed = {
        name: BASE_MODELS[name].of_battles(run, battles, vote_free, shared)
        for name in kinds
        if name in BASE_MODELS
    }
    base_models = {name: model for name, model in computed.items() if model is not None}
    texts = BattleTexts(battles)
    return Dataset(battles, texts, tables, base_models, {name: kinds[name] for name in tables})


def _check_provenance(
    run: RunDir,
    split: str,
    battles: pd.DataFrame,
    kinds: Mapping[str, ViewKind],
    ids: Mapping[str, list[str]],
) -> None:
    """Compare views with the battles and the settings that they must be of.

    Raises:
        UserError: a view is of other battles, or of other settings than its training part.
    """
    own_ids, texts = battles["id"].tolist(), texts_hash(battles)
    for name, view_ids in ids.items():
        kind = kinds.get(name) or KINDS[name]
        path = run.views / name / f"{split}.parquet"
        notes = read_notes(path) if name in kinds else None
        if view_ids != own_ids or (notes is not None and notes.get("battles") != texts):
            raise UserError(
                Code.VIEW_OUTDATED,
                f"View {name} in {run.folder} was computed from other {split} battles. "
                f"Recompute it: {_command(run, split, name, kind)}",
            )
        train = run.views / name / "train.parquet"
        compared = split != "train" and train.exists()
        if notes and compared and read_notes(train).get("source") != notes.get("source"):
            raise UserError(
                Code.VIEW_DIFFERS,
                f"View {name} in {run.folder} was computed from its test battles by another "
                "model, or with other settings, than from its training battles. Recompute it "
                f"as for the training battles: {_command(run, split, name, kind)}",
            )


def _check_wanted(
    run: RunDir,
    split: str,
    kinds: Mapping[str, ViewKind],
    views: Collection[str],
    available: Collection[str],
) -> None:
    """Raise ``UserError`` where a view that is asked for is not available."""
    for name in views:
        if name in available:
            continue
        others = [other for other in kinds if other not in BASE_MODELS]
        if name in BASE_MODELS and BASE_MODELS[name].of_views and others:
            raise UserError(
                Code.VIEW_WITHOUT_SOURCE,
                f"View {name} is learned from other views. Name at least one of "
                f"{', '.join(others)} beside it.",
            )
        kind = kinds.get(name) or KINDS.get(name)
        maker = kind.command if kind else "the command that makes it"
        raise UserError(
            Code.VIEW_MISSING,
            f"{run.folder} has no view {name} of its {split} battles, but {', '.join(kinds)}. "
            f"Run {maker} on them, with the same backbone.",
        )


def _command(run: RunDir, split: str, view: str, kind: ViewKind) -> str:
    """How to give the command that makes a view of a split's battles."""
    option = "" if view in BASE_MODELS else f" --view {view}"
    if kind.command == STYLE.command:
        option = f" --{split} FILE"
    return f"`python pipelines/{kind.command}{option} --run {run.folder}`"
