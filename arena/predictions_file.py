"""Files of probabilities and of votes, one row a battle: read in any format, checked row by row.

A file (CSV, parquet or JSONL, local or a URL) has the column id and, in any order of columns,

  probabilities   winner_model_a, winner_model_b, winner_tie; or the same with p_ before each;
                  or prob_a, prob_b, prob_tie; or p_a, p_b, p_tie; or a, b, tie
  votes           label, winner_model or winner: 0 / 1 / 2, or a / b / tie; or a single 1 among
                  winner_model_a, winner_model_b, winner_tie; blank or -1 where it is not known

Triples are in the class order of ``arena.schema.CLASSES``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from arena.files import Source, is_encodable, read_source
from arena.folds import prompt_hash
from arena.formats import Cells, Damaged, DamagedRowError, JsonColumns, winner_called, winner_of
from arena.reader import is_plain
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
"""Columns that tell the label in one cell."""

LOG_ODDS = ("side", "tie")
"""Columns of a view of log-odds (fine-tuned logits, verdicts), which give its probabilities."""

BLANK = ("", "-1", "-1.0", "nan", "none", "null")
"""A cell of a label that is not known, in lower case."""

NAMED = "; or ".join(", ".join(names) for names in (CLASSES, *PROBABILITIES))
VOTES = f"a column {' or '.join(LABELS)}, or votes of 0 and 1 in {', '.join(CLASSES)}"

DRIFT = 0.02
"""How far a sum of probabilities may be from 1: three of two decimals each are off by .015."""


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
            numbers are no probabilities, a label is none.
    """
    found, ids = _read(source, ["group", "prompt"])
    names, votes = _columns(source, found)
    if not votes:
        raise UserError(Code.VOTES_MISSING, f"{source} has no labels. Add {VOTES}.")
    rows = range(len(ids))
    probabilities = _probabilities(source, ids, rows, found, names)
    labels = np.array([_label(source, ids, i, found, votes) for i in rows])
    return Forecasts(ids, probabilities, labels, _groups(ids, found))


def read_votes(source: str, ids: Sequence[str]) -> np.ndarray:
    """Read the votes on these battles, int64 (n,), -1 where the file tells none.

    Args:
        source: local path or any URL that fsspec opens.
        ids: battle ids, n; rows of other battles are left alone.

    Raises:
        UserError: no column tells a vote, a row is damaged, an id occurs twice, a vote is none.
    """
    found, names = _read(source, [])
    columns = _label_columns(found)
    if set(CLASSES) <= set(found.columns):
        columns.append(CLASSES)
    if not columns:
        raise UserError(Code.VOTES_MISSING, f"{source} has no votes. Add {VOTES}.")
    place = {name: i for i, name in enumerate(names)}
    return np.array(
        [
            _label(source, names, place[name], found, columns) if name in place else UNKNOWN
            for name in ids
        ],
        dtype=np.int64,
    )


def read_probabilities(source: str, ids: Sequence[str], *, logits: bool) -> np.ndarray:
    """Read the probabilities of these battles.

    The file may also be a logits or verdict view, in which ``side`` and ``tie`` are log-odds.

    Args:
        source: local path or any URL that fsspec opens.
        ids: battle ids, n; rows of other battles are left alone.
        logits: whether triples are taken for logits where a number is below 0 or above 1, or no
            row sums to 1.

    Returns:
        float64 (n, 3), rows that sum to 1.

    Raises:
        UserError: the file cannot be read, lacks a battle, or holds something else.
    """
    found, names = _read(source, LOG_ODDS)
    place = {name: i for i, name in enumerate(names)}
    there = set(found.columns)
    if there.issuperset(LOG_ODDS) and not any(
        there.issuperset(t) for t in (CLASSES, *PROBABILITIES)
    ):
        columns: Sequence[str] = LOG_ODDS
    else:
        columns, _ = _columns(source, found)
    known = [
        name in place and any(not _is_empty(found.rows[place[name]].cells.get(c)) for c in columns)
        for name in ids
    ]
    if not all(known):
        raise UserError(
            Code.BATTLES_MISSING,
            f"{source} lacks {len(ids) - sum(known):,} of {len(ids):,} training battles, "
            f"id {ids[known.index(False)]} among them. Give every training battle a row.",
        )
    rows = [place[name] for name in ids]
    if columns == LOG_ODDS:
        side, tie = _numbers(source, names, rows, found, columns).T
        return from_log_odds(side, tie)
    if logits:
        triples = _numbers(source, names, rows, found, columns)
        sums = np.abs(triples.sum(axis=1) - 1) <= DRIFT
        if (triples < 0).any() or (triples > 1 + DRIFT).any() or not sums.any():
            return np.asarray(softmax(triples, axis=1))
    return _probabilities(source, names, rows, found, columns)


def _read(source: str, also: Sequence[str]) -> tuple[Source, list[str]]:
    """The rows of a file, none of them damaged, and their ids, none of them twice."""
    names = [name for triple in (CLASSES, *PROBABILITIES) for name in triple]
    found = read_source(source, ["id", *LABELS, *names, *also])
    if "id" not in found.columns:
        raise UserError(
            Code.COLUMN_MISSING,
            f"{source} has no column id. Add one: it names the battle of each row.",
        )
    if not found.rows:
        raise UserError(Code.INPUT_EMPTY, f"{source} has no rows. Give one row for each battle.")
    ids: dict[str, int] = {}
    for i, row in enumerate(found.rows):
        cell = row.cells.get("id")
        name = "" if cell is None else str(cell)
        if row.damage:
            raise UserError(
                Code.ROW_DAMAGED,
                f"{_at(source, i, ascii(name))}: {row.damage}. Fix or delete the row.",
            )
        if not name or not is_encodable(name) or not is_plain(name):
            raise UserError(
                Code.ID_INVALID,
                f"{source}, row {i + 1}: the id is missing, longer than one line, or a formula. "
                "Give every row a plain id.",
            )
        if name in ids:
            raise UserError(
                Code.ID_REPEATED,
                f"{_at(source, i, name)}: row {ids[name] + 1} has the same id. Delete one.",
            )
        ids[name] = i
    return found, list(ids)


def _at(source: str, i: int, name: str) -> str:
    return f"{source}, row {i + 1} (id {name[:40]})"


def _label_columns(found: Source) -> list[Sequence[str]]:
    """The columns that each tell the label in one cell."""
    return [(name,) for name in LABELS if name in found.columns]


def _columns(source: str, found: Source) -> tuple[Sequence[str], list[Sequence[str]]]:
    """The columns of the probabilities, and those that tell the label: one or three names each."""
    columns = set(found.columns)
    triples: list[Sequence[str]] = [t for t in PROBABILITIES if columns.issuperset(t)]
    labels = _label_columns(found)
    if columns.issuperset(CLASSES):
        numbers = (_number(row.cells.get(name)) for row in found.rows for name in CLASSES)
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
            f"{source} has probabilities in {sets}. Delete or rename all but one set.",
        )
    if not triples:
        nearest = max((*PROBABILITIES, CLASSES), key=lambda t: len(columns & set(t)))
        lacking = [n for n in nearest if n not in columns] if columns & set(nearest) else []
        what = f"column {', '.join(lacking)}" if lacking else "probabilities"
        raise UserError(
            Code.COLUMN_MISSING, f"{source} has no {what}. Name the probabilities {NAMED}."
        )
    return triples[0], labels


def _number(cell: Any) -> float | None:
    try:
        return None if cell is None else float(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_empty(cell: Any) -> bool:
    return cell is None or cell == "" or str(cell).strip().lower() == "nan"


def _numbers(
    source: str, ids: Sequence[str], rows: Sequence[int], found: Source, names: Sequence[str]
) -> np.ndarray:
    """Finite numbers of the columns ``names``, float64 (len(rows), len(names))."""
    numbers = np.empty((len(rows), len(names)))
    for k, i in enumerate(rows):
        for c, name in enumerate(names):
            cell = found.rows[i].cells.get(name)
            number = _number(cell)
            if number is None or not math.isfinite(number):
                told = "is empty" if cell in (None, "") else f"is {str(cell)[:40]!r}"
                raise UserError(
                    Code.PROBABILITY_INVALID,
                    f"{_at(source, i, ids[i])}: {name} {told}, not a number.",
                )
            numbers[k, c] = number
    return numbers


def _probabilities(
    source: str, ids: Sequence[str], rows: Sequence[int], found: Source, names: Sequence[str]
) -> np.ndarray:
    numbers = _numbers(source, ids, rows, found, names)
    for k, c in np.argwhere(numbers < 0)[:1]:
        cell = str(found.rows[rows[k]].cells[names[c]])[:40]
        where = _at(source, rows[k], ids[rows[k]])
        raise UserError(
            Code.PROBABILITY_INVALID, f"{where}: {names[c]} is {cell!r}, not a probability."
        )
    sums = numbers.sum(axis=1)
    for k in np.flatnonzero(np.abs(sums - 1) > DRIFT)[:1]:
        where = _at(source, rows[k], ids[rows[k]])
        raise UserError(
            Code.PROBABILITY_INVALID, f"{where}: {', '.join(names)} sum to {sums[k]:.6g}, not to 1."
        )
    normalised: np.ndarray = numbers / sums[:, None]
    return normalised


def _label(
    source: str, ids: Sequence[str], i: int, found: Source, columns: Sequence[Sequence[str]]
) -> int:
    """The label of row ``i``, which every one of ``columns`` must tell alike."""
    cells = found.rows[i].cells
    try:
        told = [_told(cells, names) for names in columns]
    except DamagedRowError as damage:
        raise UserError(Code.ROW_DAMAGED, f"{_at(source, i, ids[i])}: {damage}") from None
    if len(set(told)) > 1:
        both = " and ".join(names[0] for names in columns)
        raise UserError(
            Code.LABELS_DISAGREE,
            f"{_at(source, i, ids[i])}: {both} give different labels. Delete one of the columns.",
        )
    return told[0]


def _told(cells: Cells, names: Sequence[str]) -> int:
    texts = ["" if cells.get(name) is None else str(cells[name]).strip() for name in names]
    if all(text.lower() in BLANK for text in texts):
        return UNKNOWN
    if len(names) > 1:
        return winner_of(cells, names)
    number = _number(texts[0])
    if number in (0, 1, 2):
        return int(number)
    label = winner_called(texts[0])
    if label is None:
        raise DamagedRowError(f"{names[0]} is {texts[0][:40]!r}, not 0, 1, 2, a, b or tie")
    return label


def _groups(ids: Sequence[str], found: Source) -> np.ndarray:
    """Group of each row by its group, else its prompt, else its id, as 16 hex digits."""
    by_group = "group" in found.columns
    if not by_group:
        json = JsonColumns(["prompt"])
        for row in found.rows:
            json.see(row.cells)
        for row in found.rows:
            json.decode(row.cells)
    groups = []
    for name, row in zip(ids, found.rows, strict=True):
        cell = row.cells.get("group" if by_group else "prompt")
        if cell is None or cell == "" or isinstance(cell, Damaged):
            groups.append(digest([["id", name]]))
        elif by_group:
            groups.append(digest([["group", str(cell)]]))
        else:
            sound = isinstance(cell, list) and all(isinstance(t, str | None) for t in cell)
            groups.append(prompt_hash(cell if sound else [str(cell)], [name], []))
    return np.array(groups)
