"""The rows of a file by id, for files of predictions: every cell that is used is checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from arena.cells import Cells, DamagedRowError
from arena.files import Row, is_encodable, read_source
from arena.ids import ID_COLUMNS, id_text, is_plain
from arena.schema import UNKNOWN
from arena.votes import vote_of_three, winner_called
from common.errors import Code, UserError

BLANK = ("", "-1", "-1.0", "nan", "none", "null")
"""Cells of an unknown label, in lower case."""


class KeyedRows:
    """The rows of a file by their ids.

    Attributes:
        source: path or URL of the file.
        columns: names of its columns.
        rows: n rows, none of them damaged.
        ids: id of each row, as ``arena.ids.id_text`` has it.
        place: position of the first row of each id, in the order of the rows.
        repeats: positions of the rows whose id an earlier row has.
    """

    def __init__(self, source: str, wanted: Collection[str]) -> None:
        """Read the columns ``wanted`` and the id.

        Raises:
            UserError: the file cannot be read, a row is damaged, or an id is missing.
        """
        file = read_source(source, [*ID_COLUMNS, *wanted])
        named = next((name for name in ID_COLUMNS if name in file.columns), None)
        if named is None:
            raise UserError(
                Code.COLUMN_MISSING,
                f"{source} has no column {' or '.join(ID_COLUMNS)}. Add one: it names the battle "
                "of each row.",
            )
        if not file.rows:
            raise UserError(
                Code.INPUT_EMPTY, f"{source} has no rows. Give one row for each battle."
            )
        self.source, self.columns, self.rows = source, set(file.columns), file.rows
        self.ids: list[str] = []
        self.place: dict[str, int] = {}
        self.repeats: list[int] = []
        for i, row in enumerate(file.rows):
            name = self._id(i, row, named)
            self.ids.append(name)
            if name in self.place:
                self.repeats.append(i)
            self.place.setdefault(name, i)

    def where(self, i: int) -> str:
        """Row ``i``, for a message."""
        return f"{self.source}, row {i + 1} (id {self.ids[i][:40]})"

    def refuse_repeats(self) -> None:
        """Raise ``UserError`` where two rows have the same id."""
        for i in self.repeats[:1]:
            earlier = self.place[self.ids[i]]
            raise UserError(
                Code.ID_REPEATED,
                f"{self.where(i)}: row {earlier + 1} has the same id. Delete one.",
            )

    def numbers(self, names: Sequence[str], rows: Sequence[int]) -> np.ndarray:
        """Numbers of the columns ``names`` in the rows at these positions.

        Returns:
            float64 (len(rows), len(names)), finite.

        Raises:
            UserError: a cell is not a number.
        """
        numbers = np.empty((len(rows), len(names)))
        for k, i in enumerate(rows):
            for c, name in enumerate(names):
                cell = self.rows[i].cells.get(name)
                number = number_in(cell)
                if number is None or not math.isfinite(number):
                    problem = "is empty" if cell in (None, "") else f"is {str(cell)[:40]!r}"
                    raise UserError(
                        Code.PROBABILITY_INVALID,
                        f"{self.where(i)}: {name} {problem}, not a number.",
                    )
                numbers[k, c] = number
        return numbers

    def label(self, i: int, columns: Sequence[Sequence[str]], first: int = 0) -> int:
        """The label of row ``i``, on which all ``columns`` must agree; -1 where unknown.

        Args:
            i: position of the row.
            columns: sets of one or three columns that hold the label.
            first: the number that stands for A in a single column; the next two are B and a tie.

        Raises:
            UserError: a cell is no label, or two columns disagree.
        """
        try:
            labels = [_label(self.rows[i].cells, names, first) for names in columns]
        except DamagedRowError as damage:
            raise UserError(Code.ROW_DAMAGED, f"{self.where(i)}: {damage}") from None
        if len(set(labels)) > 1:
            both = " and ".join(names[0] for names in columns)
            raise UserError(
                Code.LABELS_DISAGREE,
                f"{self.where(i)}: {both} give different labels. Delete one of the columns.",
            )
        return labels[0]

    def refuse_unclear_numbers(self, columns: Sequence[Sequence[str]], how: str) -> None:
        """Refuse labels that are numbers and never 0: is 1 the answer A, or is it B?

        Args:
            columns: sets of one or three columns that hold the label.
            how: what the user is to do, a sentence.

        Raises:
            UserError: a single column has such labels.
        """
        for name in (names[0] for names in columns if len(names) == 1):
            cells = {_text(row.cells.get(name)) for row in self.rows}
            numbers = {number_in(text) for text in cells if text.lower() not in BLANK}
            if numbers and numbers <= {1.0, 2.0, 3.0}:
                *others, last = [str(k) for k in (1, 2, 3) if k in numbers]
                values = f"{', '.join(others)} and {last}" if others else last
                raise UserError(
                    Code.LABELS_UNCLEAR,
                    f"{self.source}: {name} is {values} and never 0, so that it is not clear which "
                    f"number means A, B or a tie. {how}",
                )

    def _id(self, i: int, row: Row, column: str) -> str:
        name = id_text(row.cells.get(column))
        if row.damage:
            raise UserError(
                Code.ROW_DAMAGED,
                f"{self.source}, row {i + 1} (id {ascii(name)[:40]}): {row.damage}. "
                "Fix or delete the row.",
            )
        if not name or not is_encodable(name) or not is_plain(name):
            raise UserError(
                Code.ID_INVALID,
                f"{self.source}, row {i + 1}: the id is missing, longer than one line, or a "
                "formula. Give every row a plain id.",
            )
        return name


def number_in(cell: Any) -> float | None:
    """The number in a cell, ``None`` where there is none."""
    try:
        return None if cell is None else float(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def is_empty(cell: Any) -> bool:
    """Whether a cell holds nothing, or NaN."""
    return cell is None or cell == "" or str(cell).strip().lower() == "nan"


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _label(cells: Cells, names: Sequence[str], first: int) -> int:
    texts = [_text(cells.get(name)) for name in names]
    if all(text.lower() in BLANK for text in texts):
        return UNKNOWN
    if len(names) > 1:
        vote = vote_of_three(cells, names)
        if vote.shares is not None:
            raise DamagedRowError(f"{', '.join(names)} are fractions, not votes")
        return vote.label
    number, numbers = number_in(texts[0]), (first, first + 1, first + 2)
    if number in numbers:
        return int(number) - first
    label = winner_called(texts[0])
    if label is None:
        known = ", ".join(map(str, numbers))
        raise DamagedRowError(f"{names[0]} is {texts[0][:40]!r}, not {known}, a, b or tie")
    return label
