"""The figures of a run as ``metrics.json`` and as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from arena.schema import CLASSES, A, B
from meta.base_models.baselines import NULLS
from meta.metrics.bootstrap import TAILS, intervals, paired_bootstrap, resampled_means
from meta.metrics.scores import (
    accuracy,
    brier,
    classwise_ece,
    decisive_auc,
    log_loss,
    row_losses,
)

SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "log_loss": log_loss,
    "brier": brier,
    "ece": classwise_ece,
    "accuracy": accuracy,
    "auc": decisive_auc,
}
"""What every forecast is scored by: of probabilities (n, 3) and labels (n,)."""

BAYES = "bayes"
"""The true probabilities as a forecast; only simulated votes have them."""


def figures(
    probabilities: Mapping[str, np.ndarray], labels: np.ndarray, groups: np.ndarray
) -> dict[str, Any]:
    """Scores of every forecast of the same rows, and meta against each by paired bootstrap.

    ``intervals`` has the 95% interval of each figure under the figure's own keys, None where there
    is none; see ``meta.metrics.bootstrap``.

    Args:
        probabilities: by name, float64 (n, 3); ``meta`` among them, and ``bayes``, the true
            probabilities, where they are known.
        labels: int (n,).
        groups: prompt group of each row, (n,).
    """
    meta = row_losses(probabilities["meta"], labels)
    of_forecasts = {name: intervals(p, labels, groups) for name, p in probabilities.items()}
    found: dict[str, Any] = {
        "class_order": list(CLASSES),
        "rows": len(labels),
        "groups": len(np.unique(groups)),
        "class_share": (np.bincount(labels, minlength=3) / len(labels)).tolist(),
        "human_position_effect": float((labels == A).mean() - (labels == B).mean()),
        **{
            score: {name: finite(of(p, labels)) for name, p in probabilities.items()}
            for score, of in SCORES.items()
        },
        "intervals": {
            **_intervals_of_votes(labels, groups),
            **{
                score: {name: of_forecasts[name][score] for name in probabilities}
                for score in SCORES
            },
        },
        "meta_against": {
            name: {
                part: finite(value)
                for part, value in asdict(
                    paired_bootstrap(meta, row_losses(p, labels), groups)
                ).items()
            }
            for name, p in probabilities.items()
            if name != "meta"
        },
    }
    if BAYES in probabilities:
        against = found["meta_against"][BAYES]
        found["regret"] = against["difference"]
        ends = [against["low"], against["high"]]
        found["intervals"]["regret"] = None if None in ends else ends
    return found


def _intervals_of_votes(labels: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    if len(np.unique(groups)) < 2:
        return {"class_share": None, "human_position_effect": None}
    drawn = resampled_means(np.eye(3)[labels], groups)
    effect = drawn[:, A] - drawn[:, B]
    return {
        "class_share": np.quantile(drawn, TAILS, axis=0).T.tolist(),
        "human_position_effect": np.quantile(effect, TAILS).tolist(),
    }


def finite(figure: float) -> float | None:
    """A float that JSON can hold."""
    return figure if math.isfinite(figure) else None


def fixed(value: float | None, digits: int = 4) -> str:
    """A number with so many digits, never -0; a dash where there is none."""
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def lower_by(difference: float, interval: Sequence[float] | None) -> str:
    """How much lower one forecast is than another, as a table for the terminal has it."""
    ends = "–" if interval is None else f"[{', '.join(fixed(end) for end in interval)}]"
    return f"   {fixed(difference)}  {ends}"


def order_of(found: Mapping[str, Any]) -> list[str]:
    """The forecasts of ``found`` from the worst null to the truth, views from worst to best."""
    losses: Mapping[str, float] = found["log_loss"]
    views = sorted(
        (n for n in losses if n not in (*NULLS, "meta", "meta_uncalibrated", BAYES)),
        key=lambda n: -losses[n],
    )
    order = [*NULLS, *views, "meta_uncalibrated", "meta", BAYES]
    return [name for name in order if name in losses]


def footing(model: Mapping[str, Any]) -> str:
    """What meta has and a view alone has not, as a sentence; ``model`` is that of metrics.json."""
    return (
        f"meta: trials {model['trials']}, seeds a fold {model['bags']}; each view alone: "
        "default parameters, one seed; compare.py gives every set of views the same"
    )


def table(found: Mapping[str, Any]) -> str:
    """The ladder of forecasts, worst null first, as lines of text."""
    losses: Mapping[str, float] = found["log_loss"]
    width = 1 + max(len(name) for name in losses)
    lines = [
        f"{'':<{width}}{'log loss':>9}{'brier':>8}{'ECE':>7}{'accuracy':>10}   meta is lower by"
    ]
    for name in order_of(found):
        line = f"{name:<{width}}{losses[name]:>9.4f}{found['brier'][name]:>8.4f}"
        line += f"{found['ece'][name]:>7.3f}{found['accuracy'][name]:>10.3f}"
        if name in found["meta_against"]:
            c = found["meta_against"][name]
            known = c["high"] is not None
            line += lower_by(-c["difference"], [-c["high"], -c["low"]] if known else None)
        lines.append(line)
    lines.append(
        f"{found['rows']:,} scored rows of {found['groups']:,} prompt groups; "
        "95% intervals by paired bootstrap over the groups"
    )
    if "trials" in found.get("model", {}):
        lines.append(footing(found["model"]))
    return "\n".join(lines)
