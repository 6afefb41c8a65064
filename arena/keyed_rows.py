"""The rows of a file by id, for files of predictions: every cell that is used is checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from arena.files import Row, is_encodable, read_source
from arena.formats import Cells, DamagedRowError, winner_called, winner_of
from arena.ids import is_plain
from arena.schema import UNKNOWN
from common.errors import Code, UserError

BLANK = ("", "-1", "-1.0", "nan", "none", "null")
"""Cells of an unknown label, in lower case."""


class KeyedRows:
    """The rows of a file, each with an id of its own.

    Attributes:
        source: path or URL of the file.
        columns: names of its columns.
        rows: n rows, none of them damaged.
        place: position of each id among the rows, in their order.
    """

    def __init__(self, source: str, wanted: Collection[str]) -> None:
        """Read the columns ``wanted`` and the id.

        Raises:
            UserError: the file cannot be read, a row is damaged, or an id is missing or repeated.
        """
        file = read_source(source, ["id", *wanted])
        if "id" not in file.columns:
            raise UserError(
                Code.COLUMN_MISSING,
                f"{source} has no column id. Add one: it names the battle of each row.",
            )
        if not file.rows:
            raise UserError(
                Code.INPUT_EMPTY, f"{source} has no rows. Give one row for each battle."
            )
        self.source, self.columns, self.rows = source, set(file.columns), file.rows
        self.place: dict[str, int] = {}
        for i, row in enumerate(file.rows):
            name = self._id(i, row)
            if name in self.place:
                raise UserError(
                    Code.ID_REPEATED,
                    f"{self.where(i)}: row {self.place[name] + 1} has the same id. Delete one.",
                )
            self.place[name] = i

    @property
    def ids(self) -> list[str]:
        """The ids in the order of the rows."""
        return list(self.place)

    def where(self, i: int) -> str:
        """Row ``i``, for a message."""
        return f"{self.source}, row {i + 1} (id {str(self.rows[i].cells.get('id'))[:40]})"

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

    def label(self, i: int, columns: Sequence[Sequence[str]]) -> int:
        """The label of row ``i``, on which all ``columns`` must agree; -1 where unknown.

        Args:
            i: position of the row.
            columns: sets of one or three columns that hold the label.

        Raises:
            UserError: a cell is no label, or two columns disagree.
        """
        try:
            labels = [_label(self.rows[i].cells, names) for names in columns]
        except DamagedRowError as damage:
            raise UserError(Code.ROW_DAMAGED, f"{self.where(i)}: {damage}") from None
        if len(set(labels)) > 1:
            both = " and ".join(names[0] for names in columns)
            raise UserError(
                Code.LABELS_DISAGREE,
                f"{self.where(i)}: {both} give different labels. Delete one of the columns.",
            )
        return labels[0]

    def _id(self, i: int, row: Row) -> str:
        cell = row.cells.get("id")
        name = "" if cell is None else str(cell)
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


def _label(cells: Cells, names: Sequence[str]) -> int:
    texts = ["" if cells.get(name) is None else str(cells[name]).strip() for name in names]
    if all(text.lower() in BLANK for text in texts):
        return UNKNOWN
    if len(names) > 1:
        return winner_of(cells, names)
    number = number_in(texts[0])
    if number in (0, 1, 2):
        return int(number)
    label = winner_called(texts[0])
    if label is None:
        raise DamagedRowError(f"{names[0]} is {texts[0][:40]!r}, not 0, 1, 2, a, b or tie")
    return label
