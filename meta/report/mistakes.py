"""The most confident mistakes and the reasons for them, from models that did not train on them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from arena.battle import SEED
from arena.views import View
from meta.explain import explain
from meta.fusion import Fusion

MISTAKES = 20
EXPLAINED = 500
"""Scored rows whose reasons are summed up: SHAP values of all of them would take minutes."""

QUESTIONS = ("side", "tie")


def confident_mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Positions of up to ``MISTAKES`` rows with the highest probability on another class.

    Args:
        probabilities: float64 (n, 3).
        labels: int (n,).
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    order = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return np.asarray(wrong[order[:MISTAKES]])


def some_rows(rows: int) -> np.ndarray:
    """Positions of up to ``EXPLAINED`` of so many rows, drawn at random, in order."""
    if rows <= EXPLAINED:
        return np.arange(rows)
    return np.sort(np.random.default_rng(SEED).choice(rows, EXPLAINED, replace=False))


def reasons_unseen(
    fusion: Fusion, design: View, fold: np.ndarray, folds: np.ndarray
) -> pd.DataFrame:
    """Reasons for each row, from the boosters of the bag that did not train on its fold.

    Early stopping, tuning and calibration of those boosters did see the row.

    Args:
        fusion: trained by cross-validation over ``folds``, its boosters fold by fold.
        design: the design matrix, n rows, supervised views out of fold.
        fold: fold of each row, int (n,).
        folds: names of all folds of the training, sorted.

    Returns:
        The frame of ``meta.explain.Reasons``, n rows in the order of ``design``.
    """
    bags = len(fusion.boosters) // len(folds)
    if bags * len(folds) != len(fusion.boosters):
        raise ValueError(f"{len(fusion.boosters)} boosters are not of {len(folds)} folds")
    parts = []
    for i, name in enumerate(folds):
        rows = np.flatnonzero(fold == name)
        if len(rows):
            bag = fusion.boosters[i * bags : (i + 1) * bags]
            parts.append(explain(bag, design.take(rows)).frame().set_index(rows))
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
