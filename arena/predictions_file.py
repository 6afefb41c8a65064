"""Read files of probabilities and of votes, one row a battle; every row is checked.

A file (CSV, parquet or JSONL, local or a URL) has the column id and, in any order of columns,

  probabilities   winner_model_a, winner_model_b, winner_tie; or the same with p_ before each;
                  or prob_a, prob_b, prob_tie; or p_a, p_b, p_tie; or a, b, tie
  votes           label, winner_model or winner: 0 / 1 / 2, or a / b / tie; or a single 1 among
                  winner_model_a, winner_model_b, winner_tie; blank or -1 where it is not known

Triples are in the class order of ``arena.schema.CLASSES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from arena.folds import prompt_hash
from arena.formats import Damaged, JsonColumns
from arena.keyed_rows import KeyedRows, is_empty, number_in
from arena.schema import CLASSES, UNKNOWN, digest
from common.errors import Code, UserError

PROBABILITIES = (
    tuple(f"p_{name}" for name in CLASSES),
    ("prob_a", "prob_b", "prob_tie"),
    ("p_a", "p_b", "p_tie"),
    ("a", "b", "tie"),
)
"""Names of the three probabilities beside ``CLASSES``, in class order."""

LABELS = ("label", "winner_model", "winner")
"""Columns that hold the label in one cell."""

LOG_ODDS = ("side", "tie")
"""Columns of a view of log-odds (fine-tuned logits, verdicts), which give its probabilities."""

NAMED = "; or ".join(", ".join(names) for names in (CLASSES, *PROBABILITIES))
VOTES = f"a column {' or '.join(LABELS)}, or votes of 0 and 1 in {', '.join(CLASSES)}"

DRIFT = 0.02
"""Largest distance of a sum of probabilities from 1; three of two decimals are off by .015."""


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


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Votes (n,), each 0, 1 or 2, as probabilities; float32 (n, 3)."""
    return np.asarray(np.eye(len(CLASSES), dtype=np.float32)[labels])


def from_log_odds(side: np.ndarray, tie: np.ndarray) -> np.ndarray:
    """Probabilities (n, 3), float64, of a view's columns ``side`` and ``tie``, (n,) each."""
    return np.asarray(softmax(np.stack([side / 2, -side / 2, tie], axis=1), axis=1))


def read_forecasts(source: str) -> Forecasts:
    """Read probabilities and votes of all rows.

    Rows of one ``group``, or of one ``prompt``, where the file has such a column, are one group;
    every other row is a group of its own.

    Args:
        source: local path or any URL that fsspec opens.

    Raises:
        UserError: a column is missing or ambiguous, a row is damaged, an id occurs twice, three
            numbers are no probabilities, a label is invalid.
    """
    file = _read(source, ["group", "prompt"])
    triple, votes = _columns(file)
    if not votes:
        raise UserError(Code.VOTES_MISSING, f"{source} has no labels. Add {VOTES}.")
    rows = range(len(file.rows))
    labels = np.array([file.label(i, votes) for i in rows])
    return Forecasts(file.ids, _probabilities(file, triple, rows), labels, _groups(file))


def read_votes(source: str, ids: Sequence[str]) -> np.ndarray:
    """Read the votes on these battles, int64 (n,), -1 where unknown.

    Args:
        source: local path or any URL that fsspec opens.
        ids: battle ids, n; rows of other battles are ignored.

    Raises:
        UserError: no column has votes, a row is damaged, an id occurs twice, a vote is invalid.
    """
    file = _read(source, [])
    columns = _label_columns(file)
    if file.columns.issuperset(CLASSES):
        columns.append(CLASSES)
    if not columns:
        raise UserError(Code.VOTES_MISSING, f"{source} has no votes. Add {VOTES}.")
    places = map(file.place.get, ids)
    return np.array(
        [UNKNOWN if place is None else file.label(place, columns) for place in places],
        dtype=np.int64,
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
    file = _read(source, LOG_ODDS)
    has_triple = any(file.columns.issuperset(t) for t in (CLASSES, *PROBABILITIES))
    if file.columns.issuperset(LOG_ODDS) and not has_triple:
        columns: Sequence[str] = LOG_ODDS
    else:
        columns, _ = _columns(file)
    rows = _places(file, ids, columns)
    if columns == LOG_ODDS:
        side, tie = file.numbers(columns, rows).T
        return from_log_odds(side, tie)
    if logits:
        triples = file.numbers(columns, rows)
        sums = np.abs(triples.sum(axis=1) - 1) <= DRIFT
        if (triples < 0).any() or (triples > 1 + DRIFT).any() or not sums.any():
            return np.asarray(softmax(triples, axis=1))
    return _probabilities(file, columns, rows)


def _read(source: str, extra: Sequence[str]) -> KeyedRows:
    names = [name for triple in (CLASSES, *PROBABILITIES) for name in triple]
    return KeyedRows(source, [*LABELS, *names, *extra])


def _label_columns(file: KeyedRows) -> list[Sequence[str]]:
    """The columns that hold the label in one cell."""
    return [(name,) for name in LABELS if name in file.columns]


def _columns(file: KeyedRows) -> tuple[Sequence[str], list[Sequence[str]]]:
    """The columns of the probabilities, and those of the label: sets of one or three names."""
    columns = file.columns
    triples: list[Sequence[str]] = [t for t in PROBABILITIES if columns.issuperset(t)]
    labels = _label_columns(file)
    if columns.issuperset(CLASSES):
        numbers = (number_in(row.cells.get(name)) for row in file.rows for name in CLASSES)
        fractions = any(x is not None and x not in (0.0, 1.0, -1.0) for x in numbers)
        # Hard forecasts look like votes, but beside a label they cannot be.
        if fractions or (labels and not triples):
            triples.append(CLASSES)
        else:
            labels.append(CLASSES)
    if len(triples) > 1:
        sets = " and in ".join(", ".join(triple) for triple in triples)
        raise UserError(
            Code.COLUMN_AMBIGUOUS,
            f"{file.source} has probabilities in {sets}. Delete or rename all but one set.",
        )
    if not triples:
        nearest = max((*PROBABILITIES, CLASSES), key=lambda t: len(columns & set(t)))
        missing = [n for n in nearest if n not in columns] if columns & set(nearest) else []
        absent = f"column {', '.join(missing)}" if missing else "probabilities"
        raise UserError(
            Code.COLUMN_MISSING, f"{file.source} has no {absent}. Name the probabilities {NAMED}."
        )
    return triples[0], labels


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
    for k, c in np.argwhere(numbers < 0)[:1]:
        cell = str(file.rows[rows[k]].cells[names[c]])[:40]
        raise UserError(
            Code.PROBABILITY_INVALID,
            f"{file.where(rows[k])}: {names[c]} is {cell!r}, not a probability.",
        )
    sums = numbers.sum(axis=1)
    for k in np.flatnonzero(np.abs(sums - 1) > DRIFT)[:1]:
        raise UserError(
            Code.PROBABILITY_INVALID,
            f"{file.where(rows[k])}: {', '.join(names)} sum to {sums[k]:.6g}, not to 1.",
        )
    normalised: np.ndarray = numbers / sums[:, None]
    return normalised


def _groups(file: KeyedRows) -> np.ndarray:
    """Group of each row by its group, else its prompt, else its id, as 16 hex digits."""
    by_group = "group" in file.columns
    if not by_group:
        json = JsonColumns(["prompt"])
        for row in file.rows:
            json.see(row.cells)
        for row in file.rows:
            json.decode(row.cells)
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
