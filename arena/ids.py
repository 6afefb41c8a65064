"""Ids: the names that a file gives to its rows, read by one rule in every command."""

from __future__ import annotations

import re
from array import array
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd

ID_COLUMNS = (
    *("id", "question_id", "battle_id", "example_id", "prompt_id", "uid", "uuid", "pair_id"),
    *("conversation_id", "sample_id", "row_id", "idx"),
)
"""Columns that may hold the id; a file's is the first one that it has."""

LONGEST_ID = 200
"""Most characters of an id; a longer one is text that slipped into the wrong column."""

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that end a line or a cell of a CSV for some reader, or are invisible."""

FORMULA = re.compile(r'(?:^|[;,])[\s"]*[=+\-@\uff1d\uff0b\uff0d\uff20]')
"""The start of a spreadsheet cell that may be a formula, whatever character separates cells; East
Asian locales accept full-width signs, too."""

CALL = re.compile(r"[(|!#\[]")
"""The characters with which a formula calls or links something; -Xf3 and -5 do no harm."""

WHOLE = re.compile(r"(-?\d+)\.0+")
"""A whole number that a spreadsheet or pandas wrote as a float."""


def id_text(cell: Any) -> str:
    """The id in a cell: its text as it stands, a whole float as a whole number; "" for none."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    text = str(cell)
    whole = WHOLE.fullmatch(text)
    if whole:
        return whole[1]
    return text if text.strip() else ""


def is_plain(name: str) -> bool:
    """Whether an id can stand in a CSV as it is: one short line, and no formula."""
    if len(name) > LONGEST_ID or CONTROL.search(name):
        return False
    formula = FORMULA.search(name)
    return formula is None or not CALL.search(name, formula.end())


def shown_ids(battles: pd.DataFrame) -> pd.Series[str]:
    """The ids that people and other files know: the file's own, else those that were made up.

    Args:
        battles: canonical table, n rows.

    Returns:
        str (n,), in the table's index; an id that the file repeats occurs as often here.
    """
    own = battles["file_id"]
    return own.where(own != "", battles["id"])


class Names:
    """Unique names for the rows of a file: its own ids where they occur once.

    Attributes:
        missing: number of rows without an id.
        repeated: number of rows whose id an earlier row has.
    """

    def __init__(self) -> None:
        """Start with no rows; 12 bytes of memory a row."""
        self._hashes = array("Q")
        self.missing = self.repeated = 0

    def add(self, name: str) -> None:
        """Add the id of the next row, "" where it has none."""
        self._hashes.append(name_hash(name))

    def settle(self) -> None:
        """Count how often each id occurs, after all rows were added."""
        hashes = np.array(self._hashes, dtype=np.uint64)
        self._ids, which, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        order = np.argsort(which, kind="stable")
        starts = np.cumsum(counts) - counts
        self._earlier = np.empty(len(hashes), np.int32)
        self._earlier[order] = np.arange(len(hashes)) - np.repeat(starts, counts)
        self.missing = int((hashes == NO_NAME).sum())
        self.repeated = int((self._earlier[hashes != NO_NAME] > 0).sum())

    def unique(self, number: int, name: str, part: int = 0) -> str:
        """A name for a row that no other row has.

        Args:
            number: position of the row, in the order in which rows were added.
            name: its id, "" where it has none.
            part: which of the battles that the row stands for.
        """
        earlier = int(self._earlier[number]) if name else 0
        unique = name or str(number)
        if not name and self._is_id(unique):
            unique = f"row-{number}"
        unique += f"#{earlier + 1}" * (earlier > 0) + f".{part + 1}" * (part > 0)
        while unique != name and self._is_id(unique):
            unique += "'"
        return unique

    def _is_id(self, name: str) -> bool:
        wanted = np.uint64(name_hash(name))
        place = int(np.searchsorted(self._ids, wanted))
        return place < len(self._ids) and bool(self._ids[place] == wanted)


NO_NAME = 0
"""Stands for the hash of an id that is missing."""


def name_hash(name: str) -> int:
    """A number of 64 bits for an id; ``NO_NAME`` for a missing one."""
    if not name:
        return NO_NAME
    return int.from_bytes(sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "little")
