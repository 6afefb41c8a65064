"""The most confident mistakes, with the reasons of the models that made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from arena.feature_table import FeatureTable
from arena.schema import SEED
from common.errors import Code, UserError
from meta.explain import MIN_CONTRIBUTION, explain, title_of
from meta.metrics.scores import hits
from meta.report.text import Shown, shown
from meta.stack.predictions import Predictions
from meta.stack.stacker import Stacker

MISTAKES = 20
EXPLAINED = 200
"""Scored rows whose reasons are summed up: SHAP values of all of them would take minutes."""

MAX_REASONS = 8
"""Reasons that a mistake is shown with."""

QUESTIONS = ("side", "tie")


@dataclass(frozen=True)
class Reason:
    """The contribution of a family of features to a forecast."""

    family: str
    towards: str
    """Names a CSS class: a, b, tie, decisive."""
    words: str
    size: float
    """Log-odds, above 0."""


@dataclass(frozen=True)
class Mistake:
    """A battle whose vote the model did not expect."""

    battle: str
    vote: int
    forecast: list[float]
    prompt: Shown
    answers: list[Shown]
    models: list[str]
    reasons: list[Reason] | None


def confident_mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Positions of up to ``MISTAKES`` rows with the highest probability on another class.

    Args:
        probabilities: float64 (n, 3).
        labels: int (n,).
    """
    wrong = np.flatnonzero(hits(probabilities, labels) == 0)
    order = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return np.asarray(wrong[order[:MISTAKES]])


def some_rows(rows: int) -> np.ndarray:
    """Positions of up to ``EXPLAINED`` of ``rows`` rows, drawn at random, in order."""
    if rows <= EXPLAINED:
        return np.arange(rows)
    return np.sort(np.random.default_rng(SEED).choice(rows, EXPLAINED, replace=False))


def reasons_unseen(
    stackers: Mapping[int, Stacker], design: FeatureTable, fold: np.ndarray
) -> pd.DataFrame:
    """Reasons for each row's forecast, from the model that made it and saw nothing of its fold.

    Args:
        stackers: the stacker that scored each fold.
        design: the design matrix that they scored, n rows.
        fold: fold of each row, int (n,).

    Returns:
        The frame of ``meta.explain.Reasons``, n rows in the order of ``design``.
    """
    parts = []
    for name, stacker in stackers.items():
        rows = np.flatnonzero(fold == name)
        if len(rows):
            reasons = explain(stacker, design.take(rows))
            parts.append(reasons.frame().set_index(rows))
    return pd.concat(parts).sort_index()


def importance(reasons: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Mean absolute contribution of each family to the two log-odds, the largest sum first."""
    sizes = {
        family: {q: float(reasons[f"{q}.{family}"].abs().mean()) for q in QUESTIONS}
        for family in families(reasons.columns)
    }
    return dict(sorted(sizes.items(), key=lambda item: (-sum(item[1].values()), item[0])))


def families(columns: Iterable[str]) -> list[str]:
    """Families of evidence among the columns of a frame of reasons."""
    return [c.removeprefix("side.") for c in columns if c.startswith("side.")]


def describe_mistakes(
    predictions: Predictions, reasons: pd.DataFrame | None, battles: Iterable[pd.DataFrame]
) -> list[Mistake]:
    """The most confident mistakes with their texts and reasons, the surest first.

    Args:
        predictions: of the scored rows.
        reasons: ``reasons.parquet``, where there is one.
        battles: the canonical table that the scored rows are of, in successive parts.

    Raises:
        UserError: a scored row is not among the battles.
    """
    forecast = predictions.probabilities["meta"]
    rows = confident_mistakes(forecast, predictions.labels)
    wanted = {predictions.ids[row] for row in rows}
    found = pd.concat([part[part["id"].isin(wanted)] for part in battles])
    by_id = found.drop_duplicates("id").set_index("id")
    reasons_by_id = pd.DataFrame() if reasons is None else reasons.set_index("id")
    mistakes = []
    for row in rows:
        battle = predictions.ids[row]
        if battle not in by_id.index:
            raise UserError(
                Code.FIGURES_OUTDATED,
                f"Battle {battle} of predictions.parquet is not among the run's. "
                "Rerun train_meta.py.",
            )
        texts = by_id.loc[battle]
        known = battle in reasons_by_id.index
        mistakes.append(
            Mistake(
                battle,
                int(predictions.labels[row]),
                forecast[row].tolist(),
                shown(texts["prompt"]),
                [shown(texts["response_a"]), shown(texts["response_b"])],
                [texts["model_a"], texts["model_b"]],
                _strongest(reasons_by_id.loc[battle]) if known else None,
            )
        )
    return mistakes


def _strongest(row: pd.Series[Any]) -> list[Reason]:
    """The strongest contributions to a forecast, for both questions together."""
    reasons = []
    directions = {
        "side": (("a", "for A"), ("b", "for B")),
        "tie": (("tie", "for a tie"), ("decisive", "against a tie")),
    }
    for question, (positive, negative) in directions.items():
        for family in families(row.index):
            value = float(row[f"{question}.{family}"])
            if abs(value) >= MIN_CONTRIBUTION:
                towards, words = positive if value > 0 else negative
                reasons.append(Reason(title_of(family), towards, words, abs(value)))
    return sorted(reasons, key=lambda r: (-r.size, r.family))[:MAX_REASONS]
