"""What each architecture, and each view, is worth to the hybrid of a run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from arena.predictions_file import read_votes
from common.errors import Code, UserError
from common.files import write_json
from common.progress import Progress
from common.run_dir import RunDir
from meta import ablation
from meta.report.page import write_report
from meta.stack.dataset import Dataset, labels_of, read_dataset, without_seen
from meta.stack.nested_cv import CrossValidation, Settings, folds_for, outer_folds


def compare_run(
    run: RunDir,
    settings: Settings,
    *,
    views: Collection[str] | None = None,
    votes_file: str | None = None,
) -> dict[str, Any]:
    """Train and score every set of views alike; write comparison.json and the report.

    Args:
        run: the run, whose evidence is there; it is not changed otherwise.
        settings: the same for every set.
        views: names of the views to compare; by default all that the run has.
        votes_file: votes of the test battles, if they are known.

    Returns:
        What comparison.json holds, and the ``outer_folds``, ``rows`` and ``test_rows`` scored.

    Raises:
        UserError: evidence or votes are missing, or there is one view only.
    """
    run.require_battles("train")
    with run.reading("compare.py"):
        dataset = without_seen(read_dataset(run, "train", views))
        if len(dataset.names) < 2:
            raise UserError(
                Code.TOO_FEW_VIEWS,
                f"{run.folder} has one view only, so there is nothing to compare.",
            )
        test = read_dataset(run, "test", dataset.names) if votes_file else None
        votes = _votes(run, votes_file, test)
        folds = folds_for(dataset, settings.folds)
        variants = ablation.variants(dataset)
        sets = {name: members for _, part in variants for name, members in part.items()}
        rounds = len(outer_folds(folds)) + bool(test)
        with (
            Progress("compare", rounds * len(sets) * (settings.trials + 1), "models") as progress,
            # The run's own studies belong to the one command that changes it.
            TemporaryDirectory() as aside,
        ):
            cv = CrossValidation(dataset, folds, RunDir(Path(aside)), progress.update)
            scored, gaps = ablation.nested_sets(cv, settings)
            forecasts = ablation.forecasts(cv, settings, test) if test else {}
        costs = ablation.costs_of(run, dataset.kinds, settings)
        battles, labels = dataset.battles.iloc[scored.rows], labels_of(dataset.battles)[scored.rows]
        groups = battles["group"].to_numpy()
        comparison: dict[str, Any] = {
            "sets": {name: list(members) for name, members in sets.items()},
            "nested": ablation.figures(scored.probabilities, labels, groups),
            "strengths": ablation.strengths(scored.probabilities, labels, groups, battles),
            "stage_one": ablation.stage_one_costs(
                run.read_record(), dataset.kinds, len(dataset.battles)
            ),
            "stage_two": {architecture: asdict(cost) for architecture, cost in costs.items()},
            "swap_gap": gaps,
        }
        if test:
            known = votes >= 0
            comparison["test"] = ablation.figures(
                {name: p[known] for name, p in forecasts.items()},
                votes[known],
                test.battles["group"].to_numpy()[known],
            )
        write_json(run.comparison, comparison | run.provenance())
        if run.metrics.exists():
            write_report(run)
        outer = {"scored": outer_folds(folds), "of": len(np.unique(folds))}
        rows = {"rows": len(battles), "test_rows": int((votes >= 0).sum())}
        return comparison | {"outer_folds": outer} | rows


def _votes(run: RunDir, votes_file: str | None, test: Dataset | None) -> np.ndarray:
    """Labels of the test battles, int (m,), -1 where unknown; empty without a file."""
    if votes_file is None or test is None:
        return np.empty(0, dtype=np.int64)
    votes = read_votes(votes_file, test.battles["id"].tolist())
    if not (votes.labels >= 0).any():
        raise UserError(
            Code.VOTES_MISSING, f"{votes_file} has no vote of any test battle of {run.folder}."
        )
    for note in votes.notes():
        print(note)
    return votes.labels
