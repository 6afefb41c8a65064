"""The figures of a run as ``metrics.json`` and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from arena.battle import CLASSES, A, B
from meta.nulls import NULLS
from meta.scores import (
    accuracy,
    brier,
    classwise_ece,
    log_loss,
    paired_bootstrap,
    row_losses,
)


def figures(
    probabilities: Mapping[str, np.ndarray], labels: np.ndarray, groups: np.ndarray
) -> dict[str, Any]:
    """Scores of every forecast of the same rows, and meta against each by paired bootstrap.

    Args:
        probabilities: by name, float64 (n, 3); ``meta`` among them.
        labels: int (n,).
        groups: prompt group of each row, (n,).
    """
    meta = row_losses(probabilities["meta"], labels)
    return {
        "class_order": list(CLASSES),
        "rows": len(labels),
        "groups": len(np.unique(groups)),
        "class_share": (np.bincount(labels, minlength=3) / len(labels)).tolist(),
        "human_position_effect": float((labels == A).mean() - (labels == B).mean()),
        "log_loss": {name: log_loss(p, labels) for name, p in probabilities.items()},
        "brier": {name: brier(p, labels) for name, p in probabilities.items()},
        "ece": {name: classwise_ece(p, labels) for name, p in probabilities.items()},
        "accuracy": {name: accuracy(p, labels) for name, p in probabilities.items()},
        "meta_against": {
            name: asdict(paired_bootstrap(meta, row_losses(p, labels), groups))
            for name, p in probabilities.items()
            if name not in ("meta", "uniform")
        },
    }


def add_truth(found: dict[str, Any], truth: np.ndarray, labels: np.ndarray) -> None:
    """Add the log loss of the true probabilities (n, 3) and the regret of ``meta``."""
    found["log_loss"]["bayes"] = log_loss(truth, labels)
    found["regret"] = found["log_loss"]["meta"] - found["log_loss"]["bayes"]


def table(found: Mapping[str, Any]) -> str:
    """The ladder of forecasts, worst null first, as lines of text."""
    losses: Mapping[str, float] = found["log_loss"]
    views = sorted(
        (n for n in losses if n not in (*NULLS, "meta", "meta_uncalibrated", "bayes")),
        key=lambda n: -losses[n],
    )
    order: Sequence[str] = [*NULLS, *views, "meta_uncalibrated", "meta", "bayes"]
    lines = [f"{'':<18}{'log loss':>9}{'brier':>8}{'ECE':>7}{'accuracy':>10}   meta is lower by"]
    for name in order:
        if name not in losses:
            continue
        line = f"{name:<18}{losses[name]:>9.4f}"
        if name in found["brier"]:
            line += f"{found['brier'][name]:>8.4f}{found['ece'][name]:>7.3f}"
            line += f"{found['accuracy'][name]:>10.3f}"
        if name in found["meta_against"]:
            c = found["meta_against"][name]
            line += f"   {-c['difference']:.4f}  [{-c['high']:.4f}, {-c['low']:.4f}]"
        lines.append(line)
    lines.append(
        f"{found['rows']:,} scored rows of {found['groups']:,} prompt groups; "
        "95% intervals by paired bootstrap over the groups"
    )
    return "\n".join(lines)
