"""The cells of one row of a file, and what is said of one that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Cells = Mapping[str, Any]


class DamagedRowError(Exception):
    """This row cannot be used; the message is the reason that goes to rejected.csv.

    Reasons that differ in quoted values and numbers alone are of one rule (``arena.intake``).
    """


class Damaged(str):
    """A cell that could not be decoded: the reason, in the cell's place."""


def cell_of(cells: Cells, name: str) -> Any:
    """The cell of a column that is needed; ``DamagedRowError`` where it is missing."""
    cell = cells.get(name)
    if cell is None:
        raise DamagedRowError(f"{name} is missing")
    if isinstance(cell, Damaged):
        raise DamagedRowError(f"{name} {cell}")
    return cell
