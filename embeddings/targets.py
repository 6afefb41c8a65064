"""What a judge learns from: votes, soft labels, a teacher's probabilities.

Triples are in the class order of ``arena.battle.CLASSES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from arena.battle import CLASSES
from arena.errors import UserError

LOG_ODDS = ("side", "tie")
"""Columns of a logits or verdict view (``embeddings.orders``), which give its probabilities."""


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Votes (n,), each 0, 1 or 2, as probabilities; float32 (n, 3)."""
    return np.asarray(np.eye(len(CLASSES), dtype=np.float32)[labels])


def from_log_odds(side: np.ndarray, tie: np.ndarray) -> np.ndarray:
    """Probabilities (n, 3), float64, of a view's columns ``side`` and ``tie``, (n,) each."""
    return np.asarray(softmax(np.stack([side / 2, -side / 2, tie], axis=1), axis=1))


def read_probabilities(path: Path, ids: Sequence[str], *, logits: bool) -> np.ndarray:
    """Read the triples of these battles from a CSV, JSONL or parquet file.

    The file has the column ``id`` and the three of ``CLASSES``, in any order of rows, or is a
    logits or verdict view, in which ``side`` and ``tie`` are log-odds.

    Args:
        path: the file.
        ids: battle ids, n.
        logits: whether triples that are no probabilities are taken for logits.

    Returns:
        float32 (n, 3), rows that sum to 1.

    Raises:
        UserError: the file cannot be read, lacks a battle, or holds something else.
    """
    table = _table(path)
    if table["id"].duplicated().any():
        raise UserError(f"{path} has an id twice: {table['id'][table['id'].duplicated()].iloc[0]}")
    found = table.set_index("id").reindex(list(ids))
    try:
        if set(CLASSES) <= set(found.columns):
            triples = found[list(CLASSES)].to_numpy(dtype=np.float64)
        else:
            side, tie = (found[name].to_numpy(dtype=np.float64) for name in LOG_ODDS)
            triples = from_log_odds(side, tie)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} holds something that is not a number: {error}") from error
    lacking = ~np.isfinite(triples).all(axis=1)
    if lacking.any():
        raise UserError(
            f"{path} lacks {lacking.sum():,} of {len(ids):,} battles, "
            f"id {ids[int(lacking.argmax())]} among them: give every training battle a row"
        )
    wrong = (triples < 0).any(axis=1) | (np.abs(triples.sum(axis=1) - 1) > 1e-3)
    if wrong.any() and not logits:
        raise UserError(
            f"{path}: the row of id {ids[int(wrong.argmax())]} is no probabilities "
            f"{', '.join(CLASSES)} that sum to 1"
        )
    if wrong.any():
        triples = softmax(triples, axis=1)
    return np.asarray(triples / triples.sum(axis=1, keepdims=True), dtype=np.float32)


def _table(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".jsonl":
            table = pd.read_json(path, lines=True, dtype={"id": str})
        else:
            table = pd.read_csv(path, dtype={"id": str})
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    names = set(table.columns)
    if "id" not in names or not (set(CLASSES) <= names or set(LOG_ODDS) <= names):
        raise UserError(f"{path} must have the columns id, {', '.join(CLASSES)}")
    table["id"] = table["id"].astype(str)
    return table
