"""Read files of probabilities and of votes, one row a battle; every row is checked.

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
"""Columns that hold the label in one cell."""

LOG_ODDS = ("side", "tie")
"""Columns of a view of log-odds (fine-tuned logits, verdicts), which give its probabilities."""

BLANK = ("", "-1", "-1.0", "nan", "none", "null")
"""Cells of an unknown label, in lower case."""

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
    file, ids = _read(source, ["group", "prompt"])
    names, votes = _columns(source, file)
    if not votes:
        raise UserError(Code.VOTES_MISSING, f"{source} has no labels. Add {VOTES}.")
    rows = range(len(ids))
    probabilities = _probabilities(source, ids, rows, file, names)
    labels = np.array([_label(source, ids, i, file, votes) for i in rows])
    return Forecasts(ids, probabilities, labels, _groups(ids, file))


def read_votes(source: str, ids: Sequence[str]) -> np.ndarray:
    """Read the votes on these battles, int64 (n,), -1 where unknown.

    Args:
        source: local path or any URL that fsspec opens.
        ids: battle ids, n; rows of other battles are ignored.

    Raises:
        UserError: no column has votes, a row is damaged, an id occurs twice, a vote is invalid.
    """
    file, names = _read(source, [])
    columns = _label_columns(file)
    if set(CLASSES) <= set(file.columns):
        columns.append(CLASSES)
    if not columns:
        raise UserError(Code.VOTES_MISSING, f"{source} has no votes. Add {VOTES}.")
    place = {name: i for i, name in enumerate(names)}
    return np.array(
        [
            _label(source, names, place[name], file, columns) if name in place else UNKNOWN
            for name in ids
        ],
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
    file, names = _read(source, LOG_ODDS)
    place = {name: i for i, name in enumerate(names)}
    present = set(file.columns)
    if present.issuperset(LOG_ODDS) and not any(
        present.issuperset(t) for t in (CLASSES, *PROBABILITIES)
    ):
        columns: Sequence[str] = LOG_ODDS
    else:
        columns, _ = _columns(source, file)
    known = [
        name in place and any(not _is_empty(file.rows[place[name]].cells.get(c)) for c in columns)
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
        side, tie = _numbers(source, names, rows, file, columns).T
        return from_log_odds(side, tie)
    if logits:
        triples = _numbers(source, names, rows, file, columns)
        sums = np.abs(triples.sum(axis=1) - 1) <= DRIFT
        if (triples < 0).any() or (triples > 1 + DRIFT).any() or not sums.any():
            return np.asarray(softmax(triples, axis=1))
    return _probabilities(source, names, rows, file, columns)


def _read(source: str, extra: Sequence[str]) -> tuple[Source, list[str]]:
    """Read a file and its ids; ``UserError`` for a damaged row or a repeated id."""
    names = [name for triple in (CLASSES, *PROBABILITIES) for name in triple]
    file = read_source(source, ["id", *LABELS, *names, *extra])
    if "id" not in file.columns:
        raise UserError(
            Code.COLUMN_MISSING,
            f"{source} has no column id. Add one: it names the battle of each row.",
        )
    if not file.rows:
        raise UserError(Code.INPUT_EMPTY, f"{source} has no rows. Give one row for each battle.")
    ids: dict[str, int] = {}
    for i, row in enumerate(file.rows):
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
    return file, list(ids)


def _at(source: str, i: int, name: str) -> str:
    return f"{source}, row {i + 1} (id {name[:40]})"


def _label_columns(file: Source) -> list[Sequence[str]]:
    """The columns that hold the label in one cell."""
    return [(name,) for name in LABELS if name in file.columns]


def _columns(source: str, file: Source) -> tuple[Sequence[str], list[Sequence[str]]]:
    """The columns of the probabilities, and those of the label: sets of one or three names."""
    columns = set(file.columns)
    triples: list[Sequence[str]] = [t for t in PROBABILITIES if columns.issuperset(t)]
    labels = _label_columns(file)
    if columns.issuperset(CLASSES):
        numbers = (_number(row.cells.get(name)) for row in file.rows for name in CLASSES)
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
        missing = [n for n in nearest if n not in columns] if columns & set(nearest) else []
        absent = f"column {', '.join(missing)}" if missing else "probabilities"
        raise UserError(
            Code.COLUMN_MISSING, f"{source} has no {absent}. Name the probabilities {NAMED}."
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
    source: str, ids: Sequence[str], rows: Sequence[int], file: Source, names: Sequence[str]
) -> np.ndarray:
    """Finite numbers of the columns ``names``, float64 (len(rows), len(names))."""
    numbers = np.empty((len(rows), len(names)))
    for k, i in enumerate(rows):
        for c, name in enumerate(names):
            cell = file.rows[i].cells.get(name)
            number = _number(cell)
            if number is None or not math.isfinite(number):
                problem = "is empty" if cell in (None, "") else f"is {str(cell)[:40]!r}"
                raise UserError(
                    Code.PROBABILITY_INVALID,
                    f"{_at(source, i, ids[i])}: {name} {problem}, not a number.",
                )
            numbers[k, c] = number
    return numbers


def _probabilities(
    source: str, ids: Sequence[str], rows: Sequence[int], file: Source, names: Sequence[str]
) -> np.ndarray:
    numbers = _numbers(source, ids, rows, file, names)
    for k, c in np.argwhere(numbers < 0)[:1]:
        cell = str(file.rows[rows[k]].cells[names[c]])[:40]
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
    source: str, ids: Sequence[str], i: int, file: Source, columns: Sequence[Sequence[str]]
) -> int:
    """The label of row ``i``, on which all of ``columns`` must agree."""
    cells = file.rows[i].cells
    try:
        labels = [_label_in(cells, names) for names in columns]
    except DamagedRowError as damage:
        raise UserError(Code.ROW_DAMAGED, f"{_at(source, i, ids[i])}: {damage}") from None
    if len(set(labels)) > 1:
        both = " and ".join(names[0] for names in columns)
        raise UserError(
            Code.LABELS_DISAGREE,
            f"{_at(source, i, ids[i])}: {both} give different labels. Delete one of the columns.",
        )
    return labels[0]


def _label_in(cells: Cells, names: Sequence[str]) -> int:
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


def _groups(ids: Sequence[str], file: Source) -> np.ndarray:
    """Group of each row by its group, else its prompt, else its id, as 16 hex digits."""
    by_group = "group" in file.columns
    if not by_group:
        json = JsonColumns(["prompt"])
        for row in file.rows:
            json.see(row.cells)
        for row in file.rows:
            json.decode(row.cells)
    groups = []
    for name, row in zip(ids, file.rows, strict=True):
        cell = row.cells.get("group" if by_group else "prompt")
        if cell is None or cell == "" or isinstance(cell, Damaged):
            groups.append(digest([["id", name]]))
        elif by_group:
            groups.append(digest([["group", str(cell)]]))
        else:
            turns = isinstance(cell, list) and all(isinstance(t, str | None) for t in cell)
            groups.append(prompt_hash(cell if turns else [str(cell)], [name], []))
    return np.array(groups)
