"""Three architectures, the hybrid of them, and what each part of it is worth.

All are fused by the same second stage with the same settings, so that they differ in their evidence
alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

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
from meta.stack.dataset import LOGITS, VERDICT, Dataset, read_dataset, without_seen
from meta.stack.nested_cv import CrossValidation, OutOfFold, Settings, folds_for, outer_folds

HYBRID = "hybrid"
HANDCRAFTED, FROZEN, FINETUNED = ARCHITECTURES = ("handcrafted", "frozen", "fine-tuned")

SMALLEST_SLICE = 100


def architecture(view: str) -> str:
    """The architecture that a view belongs to; "" for one that is made of several."""
    if LOGITS in view:
        return FINETUNED
    if view in ("style", "lexical"):
        return HANDCRAFTED
    if view in ("hidden", "joint", "likelihood") or view.startswith(VERDICT):
        return FROZEN
    return ""


def sets_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Views of each architecture, of each pair of them, and all."""
    single = {
        kind: tuple(name for name in names if architecture(name) == kind)
        for kind in (HANDCRAFTED, FROZEN, FINETUNED)
    }
    single = {kind: members for kind, members in single.items() if members}
    pairs = {f"{a} + {b}": single[a] + single[b] for a, b in combinations(single, 2)}
    return {**single, **pairs, HYBRID: tuple(names)}


def variants(evidence: Dataset) -> list[tuple[str, dict[str, tuple[str, ...]]]]:
    """The sets of views to compare, by the view without which their evidence is made.

    Nothing is left out ("") of :func:`sets_of`; of "hybrid without" a view everything that knows
    it, the views that learn from it included.
    """
    found = [("", sets_of(evidence.names))]
    for view in evidence.names:
        if others := evidence.without(view).names:
            found.append((view, {f"{HYBRID} without {view}": tuple(others)}))
    return found


@dataclass(frozen=True)
class Cost:
    """What a set of views costs the second stage, measured in a process of its own."""

    rows: int
    """Battles that it was trained on."""
    train_seconds: float
    """Evidence read (and words counted), learned views, tuning, boosters and calibrator."""
    predict_seconds_per_1000_rows: float
    """Of battles whose evidence is there, learned views included."""
    peak_mib: float
    """Largest memory of the process, libraries and evidence included."""


def cost_of(folder: Path, views: Sequence[str], settings: Settings) -> Cost:
    """Train on all folds but the first, predict that one, and tell what it took.

    To be called in a process that has done nothing else, whose memory is that of this set alone.

    Args:
        folder: the run.
        views: of the set.
        settings: as for every other set.
    """
    start = time.perf_counter()
    evidence = without_seen(read_dataset(RunDir(folder), "train", views))
    folds = folds_for(evidence, settings.folds)
    scored, sets = outer_folds(folds)[0], {HYBRID: tuple(evidence.names)}
    # A study of its own, so that no trial of another one is taken over.
    with TemporaryDirectory() as aside:
        cv = CrossValidation(evidence, folds, RunDir(Path(aside)))
        _, fusion, _ = next(cv.trained(scored, sets, lambda _: settings))
    middle = time.perf_counter()
    held = evidence.take(folds == scored)
    others = [int(j) for j in np.unique(folds) if j != scored]
    models = {
        name: [fit.without(frozenset({scored, j})) for j in others] for name, fit in cv.fits.items()
    }
    fusion.predict(fusion.design(held.unseen(models)))
    predicting = 1000 * (time.perf_counter() - middle) / len(held.battles)
    rows = len(folds) - len(held.battles)
    return Cost(rows, round(middle - start, 3), round(predicting, 3), round(peak_mib()))


def costs_of(run: RunDir, names: Sequence[str], settings: Settings) -> dict[str, Cost]:
    """What each architecture and the hybrid cost the second stage, each in its own process.

    Args:
        run: the run.
        names: its views.
        settings: the same for every set.
    """
    sets = {k: v for k, v in sets_of(names).items() if k in (*ARCHITECTURES, HYBRID)}
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, spawn, ignore_interrupts, max_tasks_per_child=1) as pool:
        waiting = {k: pool.submit(cost_of, run.folder, v, settings) for k, v in sets.items()}
        return {kind: cost.result() for kind, cost in waiting.items()}


def nested_sets(cv: CrossValidation, settings: Settings) -> tuple[OutOfFold, dict[str, float]]:
    """Forecasts of all sets for rows that nothing had seen, and the swap gap of each set.

    Args:
        cv: the training battles.
        settings: the same for every set.
    """
    outer = outer_folds(cv.folds)
    table = OutOfFold(np.flatnonzero(np.isin(cv.folds, outer)), len(cv.folds))
    gaps: dict[str, float] = {}
    for left_out, sets in variants(cv.evidence):
        part = cv.without(left_out)
        for k in outer:
            held = np.flatnonzero(cv.folds == k)
            for name, fusion, views in part.trained(k, sets, lambda _: settings):
                design = fusion.design(views)
                forecast = fusion.predict(design)
                gap = swap_gap(forecast, fusion.predict(design.swap()))
                gaps[name] = max(gaps.get(name, 0.0), gap)
                table.put(name, held, forecast)
    return table, gaps


def forecasts(cv: CrossValidation, settings: Settings, test: Dataset) -> dict[str, np.ndarray]:
    """What every set, trained on all rows, says of other battles.

    Args:
        cv: the training battles.
        settings: the same for every set.
        test: the other battles, m, with the same views.

    Returns:
        By set: float64 (m, 3).
    """
    found = {}
    for left_out, sets in variants(cv.evidence):
        part = cv.without(left_out)
        views = test.without(left_out).unseen({n: fit.models() for n, fit in part.fits.items()})
        for name, fusion, _ in part.trained(None, sets, lambda _: settings):
            found[name] = fusion.predict(fusion.design(views))
    return found


def figures(
    probabilities: Mapping[str, np.ndarray], labels: np.ndarray, groups: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Scores of every set, and by how much the hybrid is lower with its 95% interval.

    Args:
        probabilities: by set, float64 (n, 3), the hybrid among them.
        labels: int (n,).
        groups: prompt group of each row, (n,).
    """
    whole = row_losses(probabilities[HYBRID], labels)
    found: dict[str, dict[str, Any]] = {}
    for name, p in probabilities.items():
        found[name] = {
            "log_loss": log_loss(p, labels),
            "brier": brier(p, labels),
            "ece": classwise_ece(p, labels),
            "accuracy": accuracy(p, labels),
        }
        if name != HYBRID:
            drawn = paired_bootstrap(row_losses(p, labels), whole, groups)
            found[name]["hybrid_lower_by"] = drawn.difference
            # One group has no interval.
            known = np.isfinite(drawn.low)
            found[name]["interval"] = [drawn.low, drawn.high] if known else None
    return found


def strengths(
    probabilities: Mapping[str, np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    battles: pd.DataFrame,
) -> dict[str, dict[str, Any]]:
    """What each architecture gets right that the others do not.

    Args:
        probabilities: by set, float64 (n, 3).
        labels: int (n,).
        groups: prompt group of each row, (n,).
        battles: canonical table of the rows.

    Returns:
        By architecture: ``right`` and ``right_alone`` (shares of the rows whose most probable class
        is the vote, and of those that no other architecture has right), and ``best_slices``: slices
        of at least ``SMALLEST_SLICE`` rows where its log loss is surely lower than that of every
        other architecture (95% intervals by paired bootstrap over prompt groups).
    """
    kinds = [kind for kind in (HANDCRAFTED, FROZEN, FINETUNED) if kind in probabilities]
    right = {kind: hits(probabilities[kind], labels) for kind in kinds}
    losses = {kind: row_losses(probabilities[kind], labels) for kind in kinds}
    # None by the winner, which no forecaster knows: one that names ties most is best at ties.
    families = name_slices(battles)
    found: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        others = [other for other in kinds if other != kind]
        alone = right[kind] * np.prod(
            [np.ones(len(labels)), *(1 - right[o] for o in others)], axis=0
        )
        best = []
        for family, names in families.items():
            for name in np.unique(names):
                rows = names == name
                if rows.sum() < SMALLEST_SLICE or len(np.unique(groups[rows])) < 2 or not others:
                    continue
                drawn = [
                    paired_bootstrap(losses[kind][rows], losses[other][rows], groups[rows])
                    for other in others
                ]
                if all(d.high < 0 for d in drawn):
                    nearest = max(drawn, key=lambda d: d.difference)
                    best.append(
                        {
                            "slice": f"{family}: {name}",
                            "rows": int(rows.sum()),
                            "lower_by": -nearest.difference,
                            "interval": [-nearest.high, -nearest.low],
                        }
                    )
        found[kind] = {
            "right": float(right[kind].mean()),
            "right_alone": float(alone.mean()),
            "best_slices": best,
        }
    return found


def stage_one_costs(record: Mapping[str, Any], names: Sequence[str], rows: int) -> dict[str, Any]:
    """What stage one took for the training battles, by architecture and in all, by ``run.json``.

    ``seconds``, ``seconds_per_1000_rows``, and where it is recorded ``peak_mib``: the largest
    memory of a process up to the end of that step.

    Args:
        record: the run's record.
        names: the run's views.
        rows: number of training battles.
    """
    seconds: Mapping[str, float] = record.get("seconds", {})
    of = {
        HANDCRAFTED: ["style_train"],
        FROZEN: [
            "language_model_train",
            *(name for name in names if name == "joint" or name.startswith(VERDICT)),
        ],
        FINETUNED: [f"finetune_{name}" for name in names if LOGITS in name],
    }
    peaks: Mapping[str, int] = record.get("peak_mib", {})
    found: dict[str, Any] = {}
    for kind, keys in of.items():
        total = sum(seconds.get(k, 0.0) for k in keys)
        if total:
            found[kind] = {"seconds": total, "seconds_per_1000_rows": 1000 * total / rows}
            memory = [peaks[k] for k in keys if k in peaks]
            found[kind] |= {"peak_mib": max(memory)} if memory else {}
    if found:
        # The hybrid needs what all the others need.
        parts = list(found.values())
        found[HYBRID] = {
            k: sum(part[k] for part in parts) for k in ("seconds", "seconds_per_1000_rows")
        }
        memory = [part["peak_mib"] for part in parts if "peak_mib" in part]
        found[HYBRID] |= {"peak_mib": max(memory)} if memory else {}
    return found
