"""The most confident mistakes and the reasons for them, from the models that made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from arena.feature_table import FeatureTable
from arena.schema import SEED
from meta.explain import explain
from meta.metrics.scores import hits
from meta.stack.stacker import Stacker

MISTAKES = 20
EXPLAINED = 200
"""Scored rows whose reasons are summed up: SHAP values of all of them would take minutes."""

QUESTIONS = ("side", "tie")


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
    """Positions of up to ``EXPLAINED`` of so many rows, drawn at random, in order."""
    if rows <= EXPLAINED:
        return np.arange(rows)
    return np.sort(np.random.default_rng(SEED).choice(rows, EXPLAINED, replace=False))


def reasons_unseen(
    fusions: Mapping[int, Stacker], design: FeatureTable, fold: np.ndarray
) -> pd.DataFrame:
    """Reasons for each row's forecast, from the model that gave it and saw nothing of its fold.

    Args:
        fusions: what scored each fold.
        design: the design matrix that they scored, n rows.
        fold: fold of each row, int (n,).

    Returns:
        The frame of ``meta.explain.Reasons``, n rows in the order of ``design``.
    """
    parts = []
    for name, fusion in fusions.items():
        rows = np.flatnonzero(fold == name)
        if len(rows):
            found = explain(fusion.boosters, design.take(rows), fusion.views)
            parts.append(found.frame().set_index(rows))
    return pd.concat(parts).sort_index()


def importance(reasons: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Mean absolute contribution of each family to the two log-odds, the largest sum first."""
    found = {
        family: {q: float(reasons[f"{q}.{family}"].abs().mean()) for q in QUESTIONS}
        for family in families(reasons.columns)
    }
    return dict(sorted(found.items(), key=lambda item: (-sum(item[1].values()), item[0])))


def families(columns: Iterable[str]) -> list[str]:
    """Families of evidence among the columns of a frame of reasons."""
    return [c.removeprefix("side.") for c in columns if c.startswith("side.")]
