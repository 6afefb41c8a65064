"""Accuracy on pairs of a chosen and a rejected answer, as RewardBench counts it.

Source: Lambert et al. 2024, "RewardBench: evaluating reward models for language modeling".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from arena.schema import TIE, A, B
from meta.metrics.bootstrap import TAILS, resampled_means


def oriented(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probabilities of the chosen answer, of the rejected one and of a tie.

    Args:
        probabilities: float64 (n, 3) of A, B and a tie.
        labels: int (n,), which side is the chosen answer: 0 A, 1 B; any other label: it is not
            known, because the answers are equal or the row was set aside.

    Returns:
        float64 (n, 3). Where the side is not known, both answers get the mean of P(A) and P(B).
    """
    sides = probabilities[:, [A, B]].copy()
    sides[labels == B] = sides[labels == B][:, ::-1]
    unknown = (labels != A) & (labels != B)
    sides[unknown] = sides[unknown].mean(axis=1, keepdims=True)
    return np.column_stack([sides, probabilities[:, TIE]])


def preferred(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the chosen answer is the more probable one: 1, 0, or 1/2 where both are equally so.

    Args:
        probabilities: float64 (n, 3).
        labels: int (n,), 0 or 1.
    """
    chosen, rejected, _ = oriented(probabilities, labels).T
    right: np.ndarray = (chosen > rejected) + (chosen == rejected) / 2
    return right


def best_of_lists(right: np.ndarray, lists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the chosen answer of a prompt beats every rejected one.

    Args:
        right: of each comparison, see :func:`preferred`; (n,).
        lists: the prompt that each comparison belongs to, str (n,).

    Returns:
        1 or 0 for each prompt, or 1 / (1 + k) where k rejected answers are as probable and none is
        more so, float64 (p,); and the position of each prompt's first comparison, int (p,).
    """
    _, first, index = np.unique(lists, return_index=True, return_inverse=True)
    lost, level = (np.bincount(index, weights=right == value) for value in (0.0, 0.5))
    return np.where(lost > 0, 0.0, 1 / (1 + level)), first


def accuracy_with_interval(right: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Mean of ``right`` (n,), its 95% interval over prompt groups (None of one group), and n."""
    interval = None
    if len(np.unique(groups)) > 1:
        interval = np.quantile(resampled_means(right[:, None], groups)[:, 0], TAILS).tolist()
    return {"accuracy": float(right.mean()), "interval": interval, "rows": len(right)}


def pair_figures(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    ids: np.ndarray,
    source: np.ndarray | None = None,
) -> dict[str, Any]:
    """How often the chosen answer is preferred over the rejected one.

    Args:
        probabilities: float64 (n, 3).
        labels: int (n,), 0 or 1: the side of the chosen answer.
        groups: prompt group of each row, (n,).
        ids: the file's id of each row, str (n,). Rows of one id are the comparisons of one prompt.
        source: such as RewardBench's subset, str (n,), "" where it is not known.

    Returns:
        ``chosen_preferred``; ``chosen_best`` of prompts, where an id has several rows; and with
        ``source`` the same of each by name in ``sources``, and ``mean_of_sources``, in which every
        source has the same weight (of prompts where there are lists, else of pairs).
    """
    right = preferred(probabilities, labels)
    figures: dict[str, Any] = {"chosen_preferred": accuracy_with_interval(right, groups)}
    lists = len(np.unique(ids)) < len(ids)
    if lists:
        best, first = best_of_lists(right, ids)
        figures["chosen_best"] = accuracy_with_interval(best, groups[first])
    if source is not None:
        figures["sources"] = {
            str(name): pair_figures(probabilities[rows], labels[rows], groups[rows], ids[rows])
            for name in np.unique(source[source != ""])
            for rows in [source == name]
        }
        means = [
            part.get("chosen_best", part["chosen_preferred"])["accuracy"]
            for part in figures["sources"].values()
        ]
        figures["mean_of_sources"] = float(np.mean(means)) if means else None
    return figures
