"""Stage two of a run: honest metrics by nested cross-validation, then the final model, on disk."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from arena import sample
from arena.battle_texts import BattleTexts
from arena.feature_table import FeatureTable
from arena.ids import shown_ids
from arena.source_column import read_sources
from common.errors import UserError
from common.files import atomic, write_json
from common.progress import Progress
from common.run_dir import RunDir
from common.steps import Steps
from meta import audit
from meta.audit.exchange import exchange_gap
from meta.metrics.slices import score_families
from meta.report.figures import BAYES, figures
from meta.report.mistakes import confident_mistakes, importance, reasons_unseen, some_rows
from meta.report.page import write_report
from meta.stack import model_io
from meta.stack.dataset import Dataset, read_dataset, training_part
from meta.stack.nested_cv import (
    CrossValidation,
    Scored,
    Settings,
    final,
    fits_in_all,
    folds_for,
    nested,
)
from meta.stack.predictions import Predictions
from meta.stack.stacker import sets_of_views
from meta.stack.trained_model import TrainedModel
from meta.stack.tuning import TRIAL_ROWS, set_aside_damaged
from meta.votes import describe, labels_of, scored_votes
from tiebreak.next_step import evidence_hash


def train_run(
    run: RunDir,
    settings: Settings,
    *,
    views: Collection[str] | None = None,
    sources: str | None = None,
    command: str = "train_meta.py",
) -> dict[str, Any]:
    """Score honestly, train on everything, save the model, its metrics and the report.

    Ctrl-C is safe: finished Optuna trials are kept.

    Args:
        run: the run, whose evidence is there.
        settings: how much work the second stage does.
        views: names of the views to use; by default all that the run has.
        sources: a CSV of the battles' sources, for metrics by source.
        command: who works on the run, for people.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        UserError: evidence is missing or outdated, battles are too few, or the run is in use.
    """
    with run.changing(command):
        set_aside_damaged(run.study)
        steps, wholes = Steps(), Steps()
        with steps("read"):
            dataset = _read_training(run, views)
        battles, votes = dataset.battles, scored_votes(dataset.battles)
        source = read_sources(sources, shown_ids(battles)) if sources else None
        folds = folds_for(dataset, settings.folds)
        print(
            f"{len(battles):,} battles of {battles['group'].nunique():,} prompt groups; "
            f"views: {', '.join(dataset.names)}\n{describe(battles)}"
        )
        scored, model = _fit(run, dataset, folds, settings, steps, wholes)
        exchanged = exchange_gap(model.meta, dataset.texts.take(scored.rows), scored.design)
        scored = replace(scored, swap_gap=max(scored.swap_gap, exchanged))
        model_io.save(model, run.model)
        groups = battles["group"].to_numpy()[scored.rows]
        probabilities = dict(scored.probabilities)
        if run.is_sample("train"):
            probabilities[BAYES] = sample.truth(battles["id"])[scored.rows]
        metrics = figures(probabilities, votes[scored.rows], groups)
        metrics["swap_gap"] = scored.swap_gap
        metrics["outer_folds"] = {"scored": list(scored.stackers), "of": len(np.unique(folds))}
        metrics["model"] = {
            "params": model.meta.params,
            "calibrator": model.meta.calibrator.name,
            "calibration": model.meta.calibration,
            "folds": settings.folds,
            "trials": settings.trials,
            "bags": settings.bags,
            "forest_share": model.meta.pool.share if model.meta.forest is not None else 0.0,
            "hash": run.model_hash(),
        }
        with steps("audit"):
            metrics |= _audit(run, dataset, folds, scored, model, source)
        with steps("reasons"):
            metrics |= _explain(run, dataset, folds, scored)
        metrics["seconds"] = run.read_record().get("seconds", {}) | steps.seconds | wholes.seconds
        metrics["peak_mib"] = steps.peak_mib
        ids, labels = battles["id"].iloc[scored.rows].tolist(), labels_of(battles)[scored.rows]
        shares = votes[scored.rows] if votes.ndim == 2 else None
        Predictions(ids, groups, labels, probabilities, shares).write(run.predictions)
        write_json(run.metrics, metrics)
        run.update_record(trained=evidence_hash(run))
        write_report(run)
        return metrics


def _read_training(run: RunDir, views: Collection[str] | None) -> Dataset:
    """The training battles that taught no judge, and their views."""
    everything = read_dataset(run, "train", views)
    dataset = training_part(everything)
    weightless = int((everything.battles["weight"] == 0).sum())
    taught = len(everything.battles) - len(dataset.battles) - weightless
    if weightless:
        print(f"{weightless:,} battles have the weight 0 and are left out")
    if taught > 0:
        print(
            f"{taught:,} battles taught the language model: the second stage learns from the others"
        )
    return dataset


def _fit(
    run: RunDir,
    dataset: Dataset,
    folds: np.ndarray,
    settings: Settings,
    steps: Steps,
    wholes: Steps,
) -> tuple[Scored, TrainedModel]:
    """Nested predictions and the final model: two wholes, of ``steps`` that are timed in them."""
    budgets = [settings.budget_for(name) for name in sets_of_views(dataset.names)]
    if settings.trials > 0 and len(folds) > TRIAL_ROWS:
        print(f"{len(folds):,} battles: an Optuna trial learns from at most {TRIAL_ROWS:,} of them")
    with Progress("second stage", fits_in_all(folds, budgets), "fits") as progress:
        cv = CrossValidation(dataset, folds, run, progress.update, steps)
        with wholes("nested"):
            scored = nested(cv, settings)
        with wholes("final"):
            model = final(cv, settings)
    return scored, model


def _audit(
    run: RunDir,
    dataset: Dataset,
    folds: np.ndarray,
    scored: Scored,
    model: TrainedModel,
    source: np.ndarray | None,
) -> dict[str, Any]:
    """The audit's findings and the metrics of every slice, for metrics.json."""
    test_battles, test_texts, test_design = _test_part(run, model)
    context = audit.AuditContext(
        dataset.battles,
        dataset.texts,
        scored_votes(dataset.battles),
        scored.rows,
        scored.probabilities,
        scored.design,
        scored.swap_gap,
        test_battles,
        test_texts,
        test_design,
        one_order=scored.one_order,
        folds=folds,
        kinds=dataset.kinds,
        source=source,
    )
    return {
        "audit": [asdict(finding) for finding in audit.run(context)],
        "slices": score_families(context.meta, context.votes, context.groups, context.slices),
    }


def _test_part(
    run: RunDir, model: TrainedModel
) -> tuple[pd.DataFrame, BattleTexts, FeatureTable] | tuple[None, None, None]:
    """The run's test battles, their texts and design matrix; none where they cannot be scored."""
    if not run.battles("test").exists():
        return None, None, None
    try:
        test = read_dataset(run, "test", model.views)
        if not test.battles.empty:
            return test.battles, test.texts, model.design(test)
    except UserError as error:
        print(f"The audit leaves out the test battles: {error}", file=sys.stderr)
    return None, None, None


def _explain(run: RunDir, dataset: Dataset, folds: np.ndarray, scored: Scored) -> dict[str, Any]:
    """Write the reasons that the report shows; the importance of each family for metrics.json."""
    labels = labels_of(dataset.battles)[scored.rows]
    drawn = some_rows(len(labels))
    rows = np.union1d(drawn, confident_mistakes(scored.probabilities["meta"], labels))
    reasons = reasons_unseen(scored.stackers, scored.design.take(rows), folds[scored.rows[rows]])
    with atomic(run.reasons) as temporary:
        reasons.to_parquet(temporary, index=False)
    return {"importance": importance(reasons[np.isin(rows, drawn)])}
