"""Ablation: three architectures, the hybrid of them, and what each view adds to it.

All get the same second stage with the same settings, so that they differ in their views alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from arena.view import ViewKind
from common.parallel import ignore_interrupts, peak_mib
from common.run_dir import RunDir
from meta.metrics.bootstrap import paired_bootstrap
from meta.metrics.scores import (
    accuracy,
    brier,
    classwise_ece,
    hits,
    log_loss,
    row_losses,
    swap_gap,
)
from meta.metrics.slices import name_slices
from meta.stack.dataset import Dataset, read_dataset, training_part
from meta.stack.nested_cv import CrossValidation, OutOfFold, Settings, folds_for, outer_folds

HYBRID = "hybrid"
ARCHITECTURES = ("handcrafted", "frozen", "fine-tuned")

SMALLEST_SLICE = 100


def sets_of(kinds: Mapping[str, ViewKind]) -> dict[str, tuple[str, ...]]:
    """Views of each architecture, of each pair of them, and all.

    Args:
        kinds: kind of each view by its name.
    """
    single = {
        architecture: tuple(v for v, kind in kinds.items() if kind.architecture == architecture)
        for architecture in ARCHITECTURES
    }
    single = {architecture: members for architecture, members in single.items() if members}
    pairs = {f"{a} + {b}": single[a] + single[b] for a, b in combinations(single, 2)}
    return {**single, **pairs, HYBRID: tuple(kinds)}


def variants(dataset: Dataset) -> list[tuple[str, dict[str, tuple[str, ...]]]]:
    """The sets of views to compare, by the view that is left out of their dataset.

    Nothing is left out ("") for :func:`sets_of`; for "hybrid without" a view everything that uses
    it, also in the views that learn from it.
    """
    sets = [("", sets_of(dataset.kinds))]
    for view in dataset.names:
        if others := dataset.without(view).names:
            sets.append((view, {f"{HYBRID} without {view}": tuple(others)}))
    return sets


@dataclass(frozen=True)
class Cost:
    """What a set of views costs the second stage, measured in a process of its own."""

    rows: int
    """Battles that it was trained on."""
    train_seconds: float
    """Reading views (and counting words), views that learn, tuning, boosters and calibrator."""
    predict_seconds_per_1000_rows: float
    """Of battles whose views are extracted, those that learn included."""
    peak_mib: float
    """Largest memory of the process, libraries and data included."""


def cost_of(folder: Path, views: Sequence[str], settings: Settings) -> Cost:
    """Train on all folds but the first, predict that one, and measure both.

    Call it in a new process, whose memory is then that of this set alone.

    Args:
        folder: the run.
        views: of the set.
        settings: as for every other set.
    """
    start = time.perf_counter()
    dataset = training_part(read_dataset(RunDir(folder), "train", views))
    folds = folds_for(dataset, settings.folds)
    held_out, sets = outer_folds(folds)[0], {HYBRID: tuple(dataset.names)}
    # A study of its own, so that no trial of another one is reused.
    with TemporaryDirectory() as temporary:
        cv = CrossValidation(dataset, folds, RunDir(Path(temporary)), outer=[held_out])
        _, stacker, _ = next(cv.train_stackers(held_out, sets, lambda _: settings))
    trained = time.perf_counter()
    unseen = dataset.take(folds == held_out)
    models = {name: fit.without(frozenset({held_out})) for name, fit in cv.fits.items()}
    stacker.predict(stacker.design(unseen.unseen(models)))
    predicting = 1000 * (time.perf_counter() - trained) / len(unseen.battles)
    rows = len(folds) - len(unseen.battles)
    return Cost(rows, round(trained - start, 3), round(predicting, 3), round(peak_mib()))


def costs_of(run: RunDir, kinds: Mapping[str, ViewKind], settings: Settings) -> dict[str, Cost]:
    """What each architecture and the hybrid cost the second stage, each in its own process.

    Args:
        run: the run.
        kinds: kind of each of its views by name.
        settings: the same for every set.
    """
    sets = {k: v for k, v in sets_of(kinds).items() if k in (*ARCHITECTURES, HYBRID)}
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, spawn, ignore_interrupts, max_tasks_per_child=1) as pool:
        futures = {k: pool.submit(cost_of, run.folder, v, settings) for k, v in sets.items()}
        return {kind: cost.result() for kind, cost in futures.items()}


def nested_sets(cv: CrossValidation, settings: Settings) -> tuple[OutOfFold, dict[str, float]]:
    """Predictions of all sets for rows that nothing had seen, and the swap gap of each set.

    Args:
        cv: the training battles.
        settings: the same for every set.
    """
    outer = outer_folds(cv.folds)
    predictions = OutOfFold(np.flatnonzero(np.isin(cv.folds, outer)), len(cv.folds))
    gaps: dict[str, float] = {}
    for left_out, sets in variants(cv.dataset):
        part = cv.without(left_out)
        for k in outer:
            rows = np.flatnonzero(cv.folds == k)
            for name, stacker, views in part.train_stackers(k, sets, lambda _: settings):
                design = stacker.design(views)
                probabilities = stacker.predict(design)
                gap = swap_gap(probabilities, stacker.predict(design.swap()))
                gaps[name] = max(gaps.get(name, 0.0), gap)
                predictions.add(name, rows, probabilities)
    return predictions, gaps


def forecasts(cv: CrossValidation, settings: Settings, test: Dataset) -> dict[str, np.ndarray]:
    """Predictions of other battles by every set, trained on all rows.

    Args:
        cv: the training battles.
        settings: the same for every set.
        test: the other battles, m, with the same views.

    Returns:
        By set: float64 (m, 3).
    """
    predictions = {}
    for left_out, sets in variants(cv.dataset):
        part = cv.without(left_out)
        views = test.without(left_out).unseen({n: fit.on_all() for n, fit in part.fits.items()})
        for name, stacker, _ in part.train_stackers(None, sets, lambda _: settings):
            predictions[name] = stacker.predict(stacker.design(views))
    return predictions


def figures(
    probabilities: Mapping[str, np.ndarray], votes: np.ndarray, groups: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Scores of every set, and by how much the hybrid is lower with its 95% interval.

    Args:
        probabilities: by set, float64 (n, 3), the hybrid among them.
        votes: labels (n,) or shares (n, 3), see ``meta.votes``.
        groups: prompt group of each row, (n,).
    """
    hybrid = row_losses(probabilities[HYBRID], votes)
    scores: dict[str, dict[str, Any]] = {}
    for name, p in probabilities.items():
        scores[name] = {
            "log_loss": log_loss(p, votes),
            "brier": brier(p, votes),
            "ece": classwise_ece(p, votes),
            "accuracy": accuracy(p, votes),
        }
        if name != HYBRID:
            gain = paired_bootstrap(row_losses(p, votes), hybrid, groups)
            scores[name]["hybrid_lower_by"] = gain.difference
            # One group has no interval.
            known = np.isfinite(gain.low)
            scores[name]["interval"] = [gain.low, gain.high] if known else None
    return scores


def strengths(
    probabilities: Mapping[str, np.ndarray],
    votes: np.ndarray,
    groups: np.ndarray,
    battles: Iterable[pd.DataFrame],
) -> dict[str, dict[str, Any]]:
    """What each architecture gets right that the others do not.

    Args:
        probabilities: by set, float64 (n, 3).
        votes: labels (n,) or shares (n, 3), see ``meta.votes``.
        groups: prompt group of each row, (n,).
        battles: the rows' battles, successive parts of the canonical table.

    Returns:
        By architecture: ``right`` and ``right_alone`` (shares of the rows whose most probable class
        is the vote, and of those that no other architecture has right), and ``best_slices``: slices
        of at least ``SMALLEST_SLICE`` rows where its log loss is lower than that of every other
        architecture (95% intervals by paired bootstrap over prompt groups).
    """
    kinds = [kind for kind in ARCHITECTURES if kind in probabilities]
    right = {kind: hits(probabilities[kind], votes) for kind in kinds}
    losses = {kind: row_losses(probabilities[kind], votes) for kind in kinds}
    # No slices by winner, which no model knows: the one that predicts most ties is best at ties.
    families = name_slices(battles)
    by_kind: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        others = [other for other in kinds if other != kind]
        alone = right[kind] * np.prod(
            [np.ones(len(votes)), *(1 - right[o] for o in others)], axis=0
        )
        best = []
        for family, names in families.items():
            for name in np.unique(names):
                rows = names == name
                if rows.sum() < SMALLEST_SLICE or len(np.unique(groups[rows])) < 2 or not others:
                    continue
                comparisons = [
                    paired_bootstrap(losses[kind][rows], losses[other][rows], groups[rows])
                    for other in others
                ]
                if all(c.high < 0 for c in comparisons):
                    nearest = max(comparisons, key=lambda c: c.difference)
                    best.append(
                        {
                            "slice": f"{family}: {name}",
                            "rows": int(rows.sum()),
                            "lower_by": -nearest.difference,
                            "interval": [-nearest.high, -nearest.low],
                        }
                    )
        by_kind[kind] = {
            "right": float(right[kind].mean()),
            "right_alone": float(alone.mean()),
            "best_slices": best,
        }
    return by_kind


def stage_one_costs(
    record: Mapping[str, Any], kinds: Mapping[str, ViewKind], rows: int
) -> dict[str, Any]:
    """Costs of stage one for the training battles, by architecture and in all, from ``run.json``.

    ``seconds``, ``seconds_per_1000_rows`` and, where recorded, ``peak_mib``: the largest memory of
    a process up to the end of that step.

    Args:
        record: the run's record.
        kinds: kind of each of the run's views by name.
        rows: number of training battles.
    """
    seconds: Mapping[str, float] = record.get("seconds", {})
    of = {
        architecture: sorted(
            {
                kind.seconds.format(view=name)
                for name, kind in kinds.items()
                if kind.architecture == architecture and kind.seconds
            }
        )
        for architecture in ARCHITECTURES
    }
    peaks: Mapping[str, int] = record.get("peak_mib", {})
    costs: dict[str, Any] = {}
    for kind, keys in of.items():
        total = sum(seconds.get(k, 0.0) for k in keys)
        if total:
            costs[kind] = {"seconds": total, "seconds_per_1000_rows": 1000 * total / rows}
            memory = [peaks[k] for k in keys if k in peaks]
            costs[kind] |= {"peak_mib": max(memory)} if memory else {}
    if costs:
        # The hybrid needs what all the others need.
        parts = list(costs.values())
        costs[HYBRID] = {
            k: sum(part[k] for part in parts) for k in ("seconds", "seconds_per_1000_rows")
        }
        memory = [part["peak_mib"] for part in parts if "peak_mib" in part]
        costs[HYBRID] |= {"peak_mib": max(memory)} if memory else {}
    return costs
