"""Ids: the names that a file gives to its rows, read by one rule in every command."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

ID_COLUMNS = ("id", "question_id", "battle_id", "example_id", "prompt_id", "uid", "uuid")
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
