"""Metrics of a run's model on test battles whose votes are known; nothing here learns."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from arena import sample
from arena.battle_table import read_battles_table
from arena.predictions_file import read_votes
from arena.reader import valid_rows
from arena.source_column import read_sources
from common.errors import Code, UserError
from common.files import write_json
from common.run_dir import RunDir
from meta import audit
from meta.metrics.slices import name_slices, score_families
from meta.report.figures import BAYES, figures
from meta.report.page import write_report
from meta.stack import model_io
from meta.stack.dataset import Dataset, read_dataset
from meta.stack.trained_model import META, TrainedModel

SMALLEST_SOURCE = 30
"""Battles under which a source says too little to be scored."""


def evaluate_run(run: RunDir, votes_file: str | None, sources: str | None = None) -> dict[str, Any]:
    """Score the baselines, each view alone and the whole; write evaluation.json and the report.

    Args:
        run: the run, with a trained model and the evidence of its test battles.
        votes_file: the votes, see ``arena.predictions_file.read_votes``; ``None``: the sample's.
        sources: a CSV of the battles' sources, for metrics by source.

    Returns:
        What evaluation.json holds.

    Raises:
        UserError: votes, model or evidence are missing.
    """
    with run.reading("evaluate.py"):
        model = model_io.load(run.model)
        dataset = read_dataset(run, "test", model.views)
        labels = _votes(run, votes_file, dataset.battles["id"].tolist())
        known = labels >= 0
        predictions = {name: p[known] for name, p in _predictions(model, dataset).items()}
        battles = dataset.battles[known].reset_index(drop=True)
        labels, groups = labels[known], battles["group"].to_numpy()
        if run.is_sample("test"):
            predictions[BAYES] = sample.truth(battles["id"])
        metrics = figures(predictions, labels, groups)
        metrics["model"] = _model_entry(run)
        source = read_sources(sources, battles["id"]) if sources else None
        slices = name_slices(battles, labels, source)
        metrics["slices"] = score_families(predictions[META], labels, groups, slices)
        if source is not None:
            metrics["sources"] = _by_source(predictions, labels, groups, source)
        if run.battles("train").exists():
            # The test set may have come after the training, and its audit.
            training = valid_rows(read_battles_table(run.battles("train")))
            metrics["audit"] = [asdict(audit.prompt_leak(training, battles))]
        write_json(run.evaluation, run.provenance() | metrics)
        if run.predictions.exists():
            write_report(run)
        return metrics


def _votes(run: RunDir, votes_file: str | None, ids: list[str]) -> np.ndarray:
    """Labels of the test battles, int (n,), -1 where unknown; at least one is known."""
    if votes_file is None:
        if not run.is_sample("test"):
            raise UserError(
                Code.VOTES_MISSING,
                f"The votes of the test battles of {run.folder} are missing. Add --labels FILE.",
            )
        votes_file = str(sample.TRUTH)
    votes = read_votes(votes_file, ids)
    labels = votes.labels
    if not (labels >= 0).any():
        raise UserError(
            Code.VOTES_MISSING, f"{votes_file} has the vote of no test battle of {run.folder}."
        )
    if not run.is_sample("test"):
        for note in votes.notes():
            print(note)
    return labels


def _predictions(model: TrainedModel, dataset: Dataset) -> dict[str, np.ndarray]:
    """Probabilities by every baseline and stacker, float64 (n, 3) each."""
    predictions = model.baselines.predict(dataset.battles)
    tables = dataset.unseen(model.base_models)
    for name, stacker in model.stackers.items():
        design = stacker.design(tables)
        predictions[name] = stacker.predict(design)
        if name == META:
            predictions["meta_uncalibrated"] = stacker.uncalibrated(design)
    return predictions


def _model_entry(run: RunDir) -> dict[str, Any]:
    """How the model was trained, where metrics.json is of the same model; else its hash."""
    entry: dict[str, Any] = {"hash": run.model_hash()}
    if run.metrics.exists():
        trained: dict[str, Any] = run.read_result(run.metrics, "train_meta.py").get("model", {})
        if trained.get("hash") == entry["hash"]:
            return trained
    return entry


def _by_source(
    predictions: dict[str, np.ndarray], labels: np.ndarray, groups: np.ndarray, source: np.ndarray
) -> dict[str, Any]:
    """Metrics of each source that is large enough."""
    metrics = {}
    for name in sorted(set(source)):
        rows = source == name
        if rows.sum() >= SMALLEST_SOURCE:
            of_source = {key: p[rows] for key, p in predictions.items()}
            metrics[str(name)] = figures(of_source, labels[rows], groups[rows])
    return metrics
