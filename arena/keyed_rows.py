"""The rows of a file by id, for files of predictions: every cell that is used is checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from arena.cells import Cells, DamagedRowError
from arena.files import read_source
from arena.ids import ID_COLUMNS, id_text, is_plain
from arena.rows import Row, is_encodable
from arena.schema import UNKNOWN
from arena.votes import BLANK, CLASS_NUMBERS, STRENGTHS, Votes, vote_of_three, vote_text
from common.errors import Code, UserError


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
        self._readers: dict[str, tuple[Votes, bool]] = {}
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

    def label(self, i: int, columns: Sequence[Sequence[str]], first: int | None = None) -> int:
        """The label of row ``i``, on which all ``columns`` must agree; -1 where unknown.

        Args:
            i: position of the row.
            columns: sets of one or three columns that hold the label.
            first: the number that stands for A in a single column; the next two are B and a tie.
                ``None``: 0, unless the column says which number is A (``arena.votes``).

        Raises:
            UserError: a cell is no label, or two columns disagree.
        """
        try:
            labels = [self._label(self.rows[i].cells, names, first) for names in columns]
        except DamagedRowError as damage:
            raise UserError(Code.ROW_DAMAGED, f"{self.where(i)}: {damage}") from None
        if len(set(labels)) > 1:
            both = " and ".join(names[0] for names in columns)
            raise UserError(
                Code.LABELS_DISAGREE,
                f"{self.where(i)}: {both} give different labels. Delete one of the columns.",
            )
        return labels[0]

    def refuse_unclear_numbers(
        self, columns: Sequence[Sequence[str]], how: str, *, ordered: Collection[str]
    ) -> None:
        """Refuse labels that are numbers of which it is not clear which one is A.

        Args:
            columns: sets of one or three columns that hold the label.
            how: what the user is to do, a sentence.
            ordered: columns in which 0, 1 and 2 are A, B and a tie.

        Raises:
            UserError: a single column has such labels.
        """
        for name in (names[0] for names in columns if len(names) == 1):
            cells = {vote_text(row.cells.get(name)) for row in self.rows}
            numbers = {number_in(text) for text in cells if text.lower() not in BLANK}
            known = [str(k) for k in (0, 1, 2, 3) if k in numbers]
            clear = name in STRENGTHS or (name in ordered and 0 in numbers)
            if known and len(known) == len(numbers) and not clear:
                raise UserError(
                    Code.LABELS_UNCLEAR,
                    f"{self.source}: {name} holds {', '.join(known)}, and it is not clear which "
                    f"number means A, B or a tie. {how}",
                )

    def _label(self, cells: Cells, names: Sequence[str], first: int | None) -> int:
        texts = [vote_text(cells.get(name)) for name in names]
        if all(text.lower() in BLANK for text in texts):
            return UNKNOWN
        if len(names) > 1:
            vote = vote_of_three(cells, names)
            if vote.shares is not None:
                raise DamagedRowError(f"{', '.join(names)} are fractions, not votes")
            return vote.label
        votes, unclear = self._votes(names[0])
        start = first or 0
        number, numbers = number_in(texts[0]), (start, start + 1, start + 2)
        if number in numbers and (unclear or first is not None or names[0] in CLASS_NUMBERS):
            return int(number) - start
        try:
            return votes.read(cells).label
        except DamagedRowError:
            known = ", ".join(map(str, numbers))
            raise DamagedRowError(
                f"{names[0]} is {texts[0][:40]!r}, not {known}, a, b or tie"
            ) from None

    def _votes(self, name: str) -> tuple[Votes, bool]:
        """The reader of a column of votes, and whether its numbers do not say which one is A."""
        if name not in self._readers:
            votes = Votes((name,))
            for row in self.rows:
                votes.see(row.cells)
            self._readers[name] = votes, bool(votes.settle())
        return self._readers[name]

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
