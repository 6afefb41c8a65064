"""Metrics of a run's model on test battles whose votes are known; nothing here learns."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from arena import sample
from arena.battle_table import read_battles_groups
from arena.ids import shown_ids
from arena.reader import valid_rows
from arena.schema import TIE
from arena.source_column import read_sources
from common.errors import Code, UserError
from common.files import check_writable, write_json
from common.run_dir import RunDir
from meta import audit
from meta.metrics.pairs import pair_figures
from meta.metrics.slices import name_slices, score_families
from meta.report.figures import BAYES, figures
from meta.report.page import write_report
from meta.stack import model_io
from meta.stack.dataset import Dataset, read_dataset
from meta.stack.trained_model import META, TrainedModel
from meta.votes import winners
from tiebreak.known_votes import known_votes, rows_set_aside

SMALLEST_SOURCE = 30
"""Battles under which a source says too little to be scored."""


def evaluate_run(
    run: RunDir,
    votes_file: str | None,
    sources: str | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Score the baselines, each view alone and the whole; write evaluation.json and the report.

    Every scored battle counts alike, whatever its weight.

    Args:
        run: the run, with a trained model and the evidence of its test battles.
        votes_file: the votes, see ``arena.votes_file.read_votes``; ``None``: those that came
            with the test battles, else the sample's.
        sources: a file of the battles' sources, for metrics by source.
        out: another file in the place of evaluation.json; nothing is written into the run then.

    Returns:
        What evaluation.json holds.

    Raises:
        UserError: votes, model or evidence are missing, or the file cannot be written.
    """
    with run.reading("evaluate.py"):
        model = model_io.load(run.model)
        check_writable(out or run.evaluation, "Name another file with --out FILE.")
        dataset = read_dataset(run, "test", model.views)
        simulated = votes_file is None and run.is_sample("test")
        file = str(sample.TRUTH) if simulated else votes_file
        found = known_votes(run, dataset.battles, file)
        if found is None:
            raise UserError(
                Code.VOTES_MISSING,
                f"The votes of the test battles of {run.folder} are missing: their file has none. "
                "Add --labels FILE.",
            )
        known = found.known
        predictions = {name: p[known] for name, p in _predictions(model, dataset).items()}
        battles, texts = dataset.battles[known].reset_index(drop=True), dataset.texts.take(known)
        votes, groups = found.votes[known], battles["group"].to_numpy()
        ids = shown_ids(battles)
        if run.is_sample("test"):
            predictions[BAYES] = sample.truth(battles["id"])
        metrics = figures(predictions, votes, groups)
        metrics["votes"] = {
            "origin": "the sample" if simulated else found.origin,
            "scored": len(votes),
            "without_vote": int((~known).sum()),
            "set_aside": rows_set_aside(run, len(known)),
        }
        metrics["model"] = _model_entry(run)
        source = read_sources(sources, ids) if sources else None
        slices = name_slices(texts, votes, source)
        metrics["slices"] = score_families(predictions[META], votes, groups, slices)
        if source is not None:
            metrics["sources"] = _by_source(predictions, votes, groups, source)
        if run.holds_pairs("test"):
            side = winners(votes)
            decided = side != TIE
            metrics["pairs"] = pair_figures(
                predictions[META][decided],
                side[decided],
                groups[decided],
                ids.to_numpy(dtype=np.str_)[decided],
                None if source is None else source[decided],
            )
        if run.battles("train").exists():
            # The test set may have come after the training, and its audit.
            training = map(valid_rows, read_battles_groups(run.battles("train")))
            metrics["audit"] = [asdict(audit.prompt_leak(training, texts))]
        write_json(out or run.evaluation, run.provenance() | metrics)
        if out is None and run.predictions.exists():
            write_report(run)
        return metrics


def _predictions(model: TrainedModel, dataset: Dataset) -> dict[str, np.ndarray]:
    """Probabilities by every baseline and stacker, float64 (n, 3) each."""
    predictions = model.baselines.predict(dataset.texts.lengths)
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
    predictions: dict[str, np.ndarray], votes: np.ndarray, groups: np.ndarray, source: np.ndarray
) -> dict[str, Any]:
    """Metrics of each source that is large enough."""
    metrics = {}
    for name in sorted(set(source)):
        rows = source == name
        if rows.sum() >= SMALLEST_SOURCE:
            of_source = {key: p[rows] for key, p in predictions.items()}
            metrics[str(name)] = figures(of_source, votes[rows], groups[rows])
    return metrics
