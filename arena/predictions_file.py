"""Read files of probabilities, with or without votes, one row a battle; every row is checked.

A file (any format that ``arena.files`` reads, local or a URL) has a column of ids and, in any order
of columns,

  probabilities   winner_model_a, winner_model_b, winner_tie; or the same with p_ before each;
                  or prob_a, prob_b, prob_tie; or p_a, p_b, p_tie; or a, b, tie; or those of a
                  view in the predictions of a run
  votes           as ``arena.votes_file`` has them; blank or -1 where it is not known

Triples are in the class order of ``arena.schema.CLASSES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from arena.cells import Damaged
from arena.folds import prompt_hash
from arena.keyed_rows import KeyedRows, is_empty
from arena.prediction_columns import (
    LABELS,
    VOTES,
    has_triple,
    prediction_columns,
    wanted_columns,
)
from arena.schema import CLASSES, digest
from arena.structures import Structures
from arena.votes import DRIFT
from common.errors import Code, UserError

LOG_ODDS = ("side", "tie")
"""Columns of a view of log-odds (fine-tuned logits, verdicts), which give its probabilities."""


@dataclass(frozen=True)
class Forecasts:
    """A file of probabilities and votes."""

    ids: list[str]
    probabilities: np.ndarray
    """float64 (n, 3), each row sums to 1."""
    labels: np.ndarray
    """int64 (n,), -1 where unknown."""
    groups: np.ndarray
    """Group of each row, 16 hex digits, (n,)."""
    view: str = ""
    """The view that they are the predictions of, where the file is a run's."""


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Votes (n,), each 0, 1 or 2, as probabilities; float32 (n, 3)."""
    return np.asarray(np.eye(len(CLASSES), dtype=np.float32)[labels])


def from_log_odds(side: np.ndarray, tie: np.ndarray) -> np.ndarray:
    """Probabilities (n, 3), float64, of a view's columns ``side`` and ``tie``, (n,) each."""
    return np.asarray(softmax(np.stack([side / 2, -side / 2, tie], axis=1), axis=1))


def read_forecasts(
    source: str, *, logits: bool = False, view: str | None = None, labels_from: int | None = None
) -> Forecasts:
    """Read probabilities and votes of all rows.

    Rows of one ``group``, or of one ``prompt``, where the file has such a column, are one group;
    every other row is a group of its own.

    Args:
        source: local path or any URL that fsspec opens.
        logits: whether the triples are logits.
        view: the view to take from a run's predictions, see
            ``arena.prediction_columns.prediction_columns``.
        labels_from: the number that stands for A in a column of numbers, 0 or 1; ``None``: 0 where
            it occurs.

    Raises:
        UserError: a column is missing or ambiguous, a row is damaged, an id occurs twice, three
            numbers are no probabilities (or, where ``logits``, no logits), a label is invalid.
    """
    file = KeyedRows(source, [*wanted_columns(view), "group", "prompt"])
    file.refuse_repeats()
    columns = prediction_columns(file, view)
    if not columns.labels:
        raise UserError(Code.VOTES_MISSING, f"{source} has no labels. Add {VOTES}.")
    if labels_from is None:
        file.refuse_unclear_numbers(
            columns.labels,
            "Add --labels-from 1 if 1 is A, 2 is B and 3 a tie, or --labels-from 0 if 1 is B and 2 "
            "a tie.",
            ordered=LABELS,
        )
    rows = range(len(file.rows))
    labels = [file.label(i, columns.labels, labels_from) for i in rows]
    read = _softmax_of_logits if logits else _probabilities
    return Forecasts(
        file.ids,
        read(file, columns.probabilities, rows),
        np.array(labels),
        _groups(file),
        columns.view,
    )


def read_probabilities(source: str, ids: Sequence[str], *, logits: bool) -> np.ndarray:
    """Read the probabilities of these battles.

    The file may also be a logits or verdict view, in which ``side`` and ``tie`` are log-odds.

    Args:
        source: local path or any URL that fsspec opens.
        ids: battle ids, n; rows of other battles are ignored.
        logits: whether triples are read as logits if a number is below 0 or above 1, or no row
            sums to 1.

    Returns:
        float64 (n, 3), rows that sum to 1.

    Raises:
        UserError: the file cannot be read, lacks a battle, or holds something else.
    """
    file = KeyedRows(source, [*wanted_columns(None), *LOG_ODDS])
    file.refuse_repeats()
    if file.columns.issuperset(LOG_ODDS) and not has_triple(file.columns):
        side, tie = file.numbers(LOG_ODDS, _places(file, ids, LOG_ODDS)).T
        return from_log_odds(side, tie)
    columns = prediction_columns(file).probabilities
    rows = _places(file, ids, columns)
    if logits and _are_logits(triples := file.numbers(columns, rows)):
        return np.asarray(softmax(triples, axis=1))
    return _probabilities(file, columns, rows)


def _are_logits(triples: np.ndarray) -> bool:
    """Whether triples (n, 3) of a teacher cannot be probabilities."""
    sums = np.abs(triples.sum(axis=1) - 1) <= DRIFT
    return bool((triples < 0).any() or (triples > 1 + DRIFT).any() or not sums.any())


def _places(file: KeyedRows, ids: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Positions of the rows of these battles, each of which has a number in ``columns``."""
    places = {
        name: i
        for name, i in file.place.items()
        if any(not is_empty(file.rows[i].cells.get(c)) for c in columns)
    }
    missing = [name for name in ids if name not in places]
    if missing:
        raise UserError(
            Code.BATTLES_MISSING,
            f"{file.source} lacks {len(missing):,} of {len(ids):,} training battles, "
            f"id {missing[0]} among them. Give every training battle a row.",
        )
    return [places[name] for name in ids]


def _probabilities(file: KeyedRows, names: Sequence[str], rows: Sequence[int]) -> np.ndarray:
    """Probabilities in the columns ``names``, float64 (len(rows), 3), rows that sum to 1."""
    numbers = file.numbers(names, rows)
    sums = numbers.sum(axis=1)
    for k, c in np.argwhere(numbers < 0)[:1]:
        cell = str(file.rows[rows[k]].cells[names[c]])[:40]
        raise UserError(
            Code.PROBABILITY_INVALID,
            f"{file.where(rows[k])}: {names[c]} is {cell!r}, not a probability."
            f"{_other_numbers(numbers)}",
        )
    for k in np.flatnonzero(np.abs(sums - 1) > DRIFT)[:1]:
        raise UserError(
            Code.PROBABILITY_INVALID,
            f"{file.where(rows[k])}: {', '.join(names)} sum to {sums[k]:.6g}, not to 1."
            f"{_other_numbers(numbers)}",
        )
    normalised: np.ndarray = numbers / sums[:, None]
    return normalised


def _other_numbers(numbers: np.ndarray) -> str:
    """What a file of triples (n, 3) seems to hold in place of probabilities; "" for a stray row."""
    sums = numbers.sum(axis=1)
    if (np.abs(sums - 1) <= DRIFT).mean() > 0.5:
        return ""
    if (numbers >= 0).all() and (np.abs(sums - 100) <= 100 * DRIFT).all():
        return " These are per cent: divide them by 100."
    if (numbers < 0).any() or (numbers > 1 + DRIFT).any():
        return (
            " These are logits: numbers below 0 or above 1, and sums that are not 1. calibrate.py "
            "takes them with --logits; other commands need their softmax."
        )
    return ""


def _softmax_of_logits(file: KeyedRows, names: Sequence[str], rows: Sequence[int]) -> np.ndarray:
    """Probabilities of the logits in the columns ``names``, float64 (len(rows), 3)."""
    numbers = file.numbers(names, rows)
    sums = numbers.sum(axis=1)
    if (numbers >= 0).all() and (np.abs(sums - 1) <= DRIFT).all():
        raise UserError(
            Code.PROBABILITY_INVALID,
            f"{file.source}: {', '.join(names)} are probabilities already, each row sums to 1. "
            "Leave out --logits.",
        )
    return np.asarray(softmax(numbers, axis=1))


def _groups(file: KeyedRows) -> np.ndarray:
    """Group of each row by its group, else its prompt, else its id, as 16 hex digits."""
    by_group = "group" in file.columns
    if not by_group:
        structures = Structures(["prompt"])
        for row in file.rows:
            structures.see(row.cells)
        structures.settle()
        for row in file.rows:
            structures.decode(row.cells)
    groups = []
    for name, row in zip(file.ids, file.rows, strict=True):
        cell = row.cells.get("group" if by_group else "prompt")
        if cell is None or cell == "" or isinstance(cell, Damaged):
            groups.append(digest([["id", name]]))
        elif by_group:
            groups.append(digest([["group", str(cell)]]))
        else:
            turns = isinstance(cell, list) and all(isinstance(t, str | None) for t in cell)
            groups.append(prompt_hash(cell if turns else [str(cell)], [name], []))
    return np.array(groups)
