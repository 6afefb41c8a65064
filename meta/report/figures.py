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
from meta.votes import shares_of

SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "log_loss": log_loss,
    "brier": brier,
    "ece": classwise_ece,
    "accuracy": accuracy,
    "auc": decisive_auc,
}
"""What every forecast is scored by: of probabilities (n, 3) and votes, see ``meta.votes``."""

BAYES = "bayes"
"""The true probabilities as a forecast; only simulated votes have them."""


def figures(
    probabilities: Mapping[str, np.ndarray], votes: np.ndarray, groups: np.ndarray
) -> dict[str, Any]:
    """Scores of every forecast of the same rows, and meta against each by paired bootstrap.

    ``intervals`` has the 95% interval of each figure under the figure's own keys, None where there
    is none; see ``meta.metrics.bootstrap``.

    Args:
        probabilities: by name, float64 (n, 3); ``meta`` among them, and ``bayes``, the true
            probabilities, where they are known.
        votes: labels (n,), or shares (n, 3) that sum to 1: every row counts alike.
        groups: prompt group of each row, (n,).
    """
    meta, shares = row_losses(probabilities["meta"], votes), shares_of(votes)
    interval_of = {name: intervals(p, votes, groups) for name, p in probabilities.items()}
    metrics: dict[str, Any] = {
        "class_order": list(CLASSES),
        "rows": len(votes),
        "groups": len(np.unique(groups)),
        "class_share": shares.mean(axis=0).tolist(),
        "human_position_effect": float(shares[:, A].mean() - shares[:, B].mean()),
        **{
            score: {name: finite(of(p, votes)) for name, p in probabilities.items()}
            for score, of in SCORES.items()
        },
        "intervals": {
            **_intervals_of_votes(shares, groups),
            **{
                score: {name: interval_of[name][score] for name in probabilities}
                for score in SCORES
            },
        },
        "meta_against": {
            name: {
                part: finite(value)
                for part, value in asdict(
                    paired_bootstrap(meta, row_losses(p, votes), groups)
                ).items()
            }
            for name, p in probabilities.items()
            if name != "meta"
        },
    }
    if BAYES in probabilities:
        against = metrics["meta_against"][BAYES]
        metrics["regret"] = against["difference"]
        ends = [against["low"], against["high"]]
        metrics["intervals"]["regret"] = None if None in ends else ends
    return metrics


def _intervals_of_votes(shares: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    if len(np.unique(groups)) < 2:
        return {"class_share": None, "human_position_effect": None}
    drawn = resampled_means(shares, groups)
    effect = drawn[:, A] - drawn[:, B]
    return {
        "class_share": np.quantile(drawn, TAILS, axis=0).T.tolist(),
        "human_position_effect": np.quantile(effect, TAILS).tolist(),
    }


def finite(figure: float) -> float | None:
    """A float that JSON can hold."""
    return figure if math.isfinite(figure) else None


def fixed(value: float | None, digits: int = 4) -> str:
    """A number with ``digits`` decimals, never -0; a dash where there is none."""
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def lower_by(difference: float, interval: Sequence[float] | None) -> str:
    """How much lower one log loss is than another, with its interval, for the terminal's tables."""
    ends = "–" if interval is None else f"[{', '.join(fixed(end) for end in interval)}]"
    return f"   {fixed(difference)}  {ends}"


def order_of(metrics: Mapping[str, Any]) -> list[str]:
    """Names of the forecasts: baselines, views from worst to best, meta, the truth."""
    losses: Mapping[str, float] = metrics["log_loss"]
    views = sorted(
        (n for n in losses if n not in (*NULLS, "meta", "meta_uncalibrated", BAYES)),
        key=lambda n: -losses[n],
    )
    order = [*NULLS, *views, "meta_uncalibrated", "meta", BAYES]
    return [name for name in order if name in losses]


def footing(model: Mapping[str, Any]) -> str:
    """The tuning budgets of meta and of a single view; ``model`` is that of metrics.json."""
    return (
        f"meta: Optuna trials {model['trials']}, boosters {model['bags']}, share of the forest "
        f"{model.get('forest_share', 0.0):.2f}; a view alone: one booster of default parameters; "
        "compare.py gives every set of views the same"
    )


def costs(metrics: Mapping[str, Any]) -> str:
    """What each step of the training took, as one line of text."""
    steps = (
        f"{name} {metrics['seconds'][name]:,.1f} s {mib:,} MiB"
        for name, mib in metrics["peak_mib"].items()
    )
    return f"seconds and peak memory: {', '.join(steps)}"


def table(metrics: Mapping[str, Any]) -> str:
    """The forecasts in the order of :func:`order_of`, as lines of text."""
    losses: Mapping[str, float] = metrics["log_loss"]
    width = 1 + max(len(name) for name in losses)
    lines = [
        f"{'':<{width}}{'log loss':>9}{'brier':>8}{'ECE':>7}{'accuracy':>10}   meta is lower by"
    ]
    for name in order_of(metrics):
        line = f"{name:<{width}}{losses[name]:>9.4f}{metrics['brier'][name]:>8.4f}"
        line += f"{metrics['ece'][name]:>7.3f}{metrics['accuracy'][name]:>10.3f}"
        if name in metrics["meta_against"]:
            c = metrics["meta_against"][name]
            known = c["high"] is not None
            line += lower_by(-c["difference"], [-c["high"], -c["low"]] if known else None)
        lines.append(line)
    lines.append(
        f"{metrics['rows']:,} scored rows of {metrics['groups']:,} prompt groups; "
        "95% intervals by paired bootstrap over the groups"
    )
    if "trials" in metrics.get("model", {}):
        lines.append(footing(metrics["model"]))
    return "\n".join(lines)
