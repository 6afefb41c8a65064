"""What each architecture, and each view, is worth to the hybrid of a run."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from common.errors import Code, UserError
from common.files import write_json
from common.progress import Progress
from common.run_dir import RunDir
from meta import ablation
from meta.report.page import write_report
from meta.stack.dataset import Dataset, read_dataset, training_part
from meta.stack.nested_cv import CrossValidation, Settings, fits_in_all, folds_for, outer_folds
from meta.votes import scored_votes
from tiebreak.known_votes import known_votes


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
        votes_file: votes of the test battles; ``None``: those that came with them, if any.

    Returns:
        What comparison.json holds, and the ``outer_folds``, ``rows`` and ``test_rows`` scored.

    Raises:
        UserError: evidence or votes are missing, or there is one view only.
    """
    run.require_battles("train")
    with run.reading("compare.py"):
        dataset = training_part(read_dataset(run, "train", views))
        if len(dataset.names) < 2:
            raise UserError(
                Code.TOO_FEW_VIEWS,
                f"{run.folder} has one view only, so there is nothing to compare.",
            )
        test = voted_battles(run, votes_file, dataset.names)
        folds = folds_for(dataset, settings.folds)
        variants = ablation.variants(dataset)
        sets = {name: members for _, part in variants for name, members in part.items()}
        fits = fits_in_all(folds, [settings] * len(sets), at_end=bool(test))
        with (
            Progress("compare", fits, "fits") as progress,
            # The run's own studies belong to the one command that changes it.
            TemporaryDirectory() as aside,
        ):
            cv = CrossValidation(dataset, folds, RunDir(Path(aside)), progress.update)
            scored, gaps = ablation.nested_sets(cv, settings)
            forecasts = ablation.forecasts(cv, settings, test[0]) if test else {}
        costs = ablation.costs_of(run, dataset.kinds, settings)
        battles = dataset.battles.iloc[scored.rows]
        votes = scored_votes(battles)
        groups = battles["group"].to_numpy()
        comparison: dict[str, Any] = {
            "sets": {name: list(members) for name, members in sets.items()},
            "nested": ablation.figures(scored.probabilities, votes, groups),
            "strengths": ablation.strengths(
                scored.probabilities, votes, groups, dataset.texts.take(scored.rows)
            ),
            "stage_one": ablation.stage_one_costs(
                run.read_record(), dataset.kinds, len(dataset.battles)
            ),
            "stage_two": {architecture: asdict(cost) for architecture, cost in costs.items()},
            "swap_gap": gaps,
        }
        if test:
            comparison["test"] = ablation.figures(
                forecasts, test[1], test[0].battles["group"].to_numpy()
            )
        write_json(run.comparison, comparison | run.provenance())
        if run.metrics.exists():
            write_report(run)
        outer = {"scored": outer_folds(folds), "of": len(np.unique(folds))}
        rows = {"rows": len(battles), "test_rows": len(test[1]) if test else 0}
        return comparison | {"outer_folds": outer} | rows


def voted_battles(
    run: RunDir, votes_file: str | None, views: Collection[str]
) -> tuple[Dataset, np.ndarray] | None:
    """The test battles with a vote, m, and the votes; none where no vote is known."""
    if votes_file is None and not run.battles("test").exists():
        return None
    try:
        test = read_dataset(run, "test", views)
    except UserError as error:
        if votes_file is not None:
            raise
        print(f"The comparison leaves out the test battles: {error}", file=sys.stderr)
        return None
    votes = known_votes(run, test.battles, votes_file)
    if votes is None:
        return None
    return test.take(votes.known), votes.votes[votes.known]
