"""The canonical table of battles as parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pyarrow as pa

from arena.schema import COLUMNS, TEXTS
from common.parquet import GROUP, damaged, read_groups, read_table, write_groups

TURNS = pa.list_(pa.string())
SHARES = pa.list_(pa.float64())
TYPES = {
    **dict.fromkeys(COLUMNS, pa.string()),
    **dict.fromkeys(TEXTS, TURNS),
    "row": pa.int64(),
    "label": pa.int8(),
    "soft_label": SHARES,
    "weight": pa.float64(),
}
LATER = {"soft_label", "weight", "file_id"}
"""Columns that tables of runs made before 2026-12 lack."""


def _schema(names: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, TYPES[name]) for name in names])


SCHEMA = _schema(COLUMNS)


def write_battles(path: Path, df: pd.DataFrame) -> None:
    """Write the canonical table atomically; equal tables give equal bytes."""
    # Group by group: the texts are not held a second time.
    starts = range(0, max(len(df), 1), GROUP)
    write_groups(path, (as_arrow(df.iloc[start : start + GROUP]) for start in starts))


def as_arrow(df: pd.DataFrame) -> pa.Table:
    """The canonical table with ``SCHEMA``."""
    arrays = [pa.array(df[name].tolist(), TYPES[name]) for name in COLUMNS]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def read_battles_table(path: Path) -> pd.DataFrame:
    """Read what :func:`write_battles` wrote; turns are Python lists of ``str | None``.

    Raises:
        UserError: it is damaged.
    """
    return _frame(path, read_table(path), COLUMNS)


def read_without_texts(path: Path) -> pd.DataFrame:
    """The same table without the columns ``arena.schema.TEXTS``, which are not read.

    Raises:
        UserError: it is damaged.
    """
    names = [name for name in COLUMNS if name not in TEXTS]
    return _frame(path, read_table(path, columns=names), names)


def read_battles_groups(path: Path) -> Iterator[pd.DataFrame]:
    """The same table group by group (:mod:`common.parquet`), so that it need not fit into memory.

    Raises:
        UserError: it is damaged.
    """
    return (_frame(path, table, COLUMNS) for table in read_groups(path))


def texts_hash(battles: pd.DataFrame) -> str:
    """Hash of the battles' texts, in their order; 16 hex digits."""
    texts = TextsHash()
    texts.add(battles)
    return texts.digest()


class TextsHash:
    """``texts_hash`` of battles that come part by part."""

    def __init__(self) -> None:
        self._hash = sha256()

    def add(self, battles: pd.DataFrame) -> None:
        """Add the next rows of the canonical table."""
        self._hash.update("".join(battles["key"]).encode())

    def digest(self) -> str:
        """The hash of all rows so far; 16 hex digits."""
        return self._hash.hexdigest()[:16]


def _frame(path: Path, table: pa.Table, names: Sequence[str]) -> pd.DataFrame:
    """The columns ``names``, which are all that was read."""
    columns = {}
    try:
        table = _completed(table, names)
        if not table.schema.equals(_schema(names)):
            raise ValueError("it has other columns")
        for name in names:
            dtype = {TURNS: "object", SHARES: "object", pa.string(): "str"}.get(TYPES[name])
            column = table.column(name)
            columns[name] = (
                pd.Series(column.to_pylist(), dtype=dtype) if dtype else column.to_pandas()
            )
        return pd.DataFrame(columns)
    except (pa.ArrowException, LookupError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


def _completed(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """A table that was written before ``LATER`` columns existed, with what they are by default."""
    if set(table.column_names) != set(names) - LATER:
        return table
    columns = {
        "soft_label": pa.nulls(len(table), SHARES),
        "weight": pa.array([1.0] * len(table)),
        "file_id": table.column("id"),
    }
    columns |= {name: table.column(name) for name in table.column_names}
    return pa.table([columns[name] for name in names], schema=_schema(names))
