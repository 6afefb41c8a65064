"""Three architectures, the hybrid of them, and what each part of it is worth.

All are fused by the same second stage with the same settings, so that they differ in their evidence
alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from arena.run import Run
from meta.evidence import LOGITS, Evidence
from meta.fusion import Fusion
from meta.learned import CrossFitted
from meta.scores import (
    accuracy,
    brier,
    classwise_ece,
    log_loss,
    paired_bootstrap,
    row_losses,
    swap_gap,
)
from meta.slices import name_slices
from meta.stage import Settings, Table, outer_folds, trained

HYBRID = "hybrid"
HANDCRAFTED, FROZEN, FINETUNED = "handcrafted", "frozen", "fine-tuned"

SMALLEST_SLICE = 100


def architecture(view: str) -> str:
    """The architecture that a view belongs to; "" for one that is made of several."""
    if LOGITS in view:
        return FINETUNED
    if view in ("style", "lexical"):
        return HANDCRAFTED
    if view in ("hidden", "joint", "likelihood") or view.startswith("verdict"):
        return FROZEN
    return ""


def sets_to_compare(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Views of each architecture, of each pair of them, of the hybrid without each view, of all."""
    single = {
        kind: tuple(name for name in names if architecture(name) == kind)
        for kind in (HANDCRAFTED, FROZEN, FINETUNED)
    }
    single = {kind: members for kind, members in single.items() if members}
    pairs = {f"{a} + {b}": single[a] + single[b] for a, b in combinations(single, 2)}
    without = {
        f"{HYBRID} without {name}": tuple(n for n in names if n != name)
        for name in names
        if len(names) > 1
    }
    return {**single, **pairs, **without, HYBRID: tuple(names)}


@dataclass
class Cost:
    """What a set of views cost the second stage."""

    train_seconds: float = 0.0
    predict_seconds: float = 0.0
    predicted_rows: int = 0
    swap_gap: float = 0.0


def nested_sets(
    evidence: Evidence,
    folds: np.ndarray,
    fits: Mapping[str, CrossFitted],
    settings: Settings,
    run: Run,
    progress: Callable[[], None],
) -> tuple[Table, dict[str, Cost]]:
    """Forecasts of all sets for rows that nothing had seen, and what each set cost.

    Args:
        evidence: the training battles and their views.
        folds: int (n,).
        fits: ``evidence.fits(folds)``.
        settings: the same for every set.
        run: keeps the studies.
        progress: called for each trial and each fusion.
    """
    outer = outer_folds(folds)
    table = Table(np.flatnonzero(np.isin(folds, outer)), len(folds))
    sets = sets_to_compare(evidence.names)
    costs = {name: Cost() for name in sets}
    for k in outer:
        held = np.flatnonzero(folds == k)
        found = trained(evidence, folds, fits, k, sets, lambda _: settings, run, progress)
        start = time.perf_counter()
        for name, fusion, views in found:
            costs[name].train_seconds += time.perf_counter() - start
            start = time.perf_counter()
            design = fusion.design(views)
            forecast = fusion.predict(design)
            costs[name].predict_seconds += time.perf_counter() - start
            costs[name].predicted_rows += len(held)
            gap = swap_gap(forecast, fusion.predict(design.swap()))
            costs[name].swap_gap = max(costs[name].swap_gap, gap)
            table.put(name, held, forecast)
            start = time.perf_counter()
    return table, costs


def final_sets(
    evidence: Evidence,
    folds: np.ndarray,
    fits: Mapping[str, CrossFitted],
    settings: Settings,
    run: Run,
    progress: Callable[[], None],
) -> dict[str, Fusion]:
    """A fusion of every set, trained on all rows."""
    sets = sets_to_compare(evidence.names)
    found = trained(evidence, folds, fits, None, sets, lambda _: settings, run, progress)
    return {name: fusion for name, fusion, _ in found}


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
            found[name]["interval"] = [drawn.low, drawn.high]
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
    right = {kind: probabilities[kind].argmax(axis=1) == labels for kind in kinds}
    losses = {kind: row_losses(probabilities[kind], labels) for kind in kinds}
    families = name_slices(battles, labels)
    found: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        others = [other for other in kinds if other != kind]
        alone = right[kind] & ~np.any([right[other] for other in others] or [[False]], axis=0)
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
    """Seconds that stage one took for the training battles, by architecture, from ``run.json``.

    Args:
        record: the run's record.
        names: the run's views.
        rows: number of training battles.
    """
    seconds: Mapping[str, float] = record.get("seconds", {})
    of = {
        HANDCRAFTED: ["style_train"],
        FROZEN: ["language_model_train"],
        FINETUNED: [f"finetune_{name}" for name in names if LOGITS in name],
    }
    known = {kind: sum(seconds.get(k, 0.0) for k in keys) for kind, keys in of.items()}
    return {
        kind: {"seconds": total, "seconds_per_1000_rows": 1000 * total / rows}
        for kind, total in known.items()
        if total
    }


def as_json(costs: Mapping[str, Cost]) -> dict[str, dict[str, float]]:
    """The second stage's costs, ready for JSON."""
    return {name: asdict(cost) for name, cost in costs.items()}
