"""The source of each battle, such as the site where it was voted on: a column of a file by id."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from arena.files import open_source
from arena.ids import ID_COLUMNS, id_text
from arena.keyed_rows import KeyedRows
from arena.votes import shortened
from common.errors import Code, UserError


def read_sources(source: str, ids: Iterable[str]) -> np.ndarray:
    """Read the source of each battle.

    Args:
        source: path or URL of a file with a column of ids and one more; FILE:COLUMN names the
            column of a file that has several. Rows of one battle must agree.
        ids: battle ids, n.

    Returns:
        str (n,), "" for a battle that the file lacks.

    Raises:
        UserError: the file cannot be read, has no such column, or gives a battle two sources.
    """
    path, column = _file_and_column(source)
    with open_source(path, ID_COLUMNS) as stream:
        column = _source_column(path, stream.columns, column)
    file = KeyedRows(path, [column])
    sources: dict[str, str] = {}
    for i, name in enumerate(file.ids):
        value = id_text(file.rows[i].cells.get(column))
        if sources.setdefault(name, value) != value:
            raise UserError(
                Code.ID_REPEATED,
                f"{file.where(i)}: row {file.place[name] + 1} has the same id and another "
                f"{column}. Delete one of them.",
            )
    return np.array([sources.get(id_text(name), "") for name in ids], dtype=str)


def _file_and_column(source: str) -> tuple[str, str]:
    """FILE and COLUMN of FILE:COLUMN; no column where the whole is a file or a URL."""
    path, _, column = source.rpartition(":")
    if not path or "/" in column or Path(source).exists():
        return source, ""
    return path, column


def _source_column(path: str, columns: list[str], named: str) -> str:
    """The column to read: the one named, or the only one beside the id."""
    others = [name for name in columns if name not in ID_COLUMNS]
    listed = shortened(columns)
    if named and named not in columns:
        raise UserError(
            Code.COLUMN_MISSING, f"{path} has no column {named}. Its columns are {listed}."
        )
    if named:
        return named
    if len(others) != 1:
        raise UserError(
            Code.COLUMN_MISSING,
            f"{path} has {len(others)} columns beside the id: which one is the source? Name it, "
            f"as {path}:COLUMN. Its columns are {listed}.",
        )
    return others[0]
