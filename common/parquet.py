"""Parquet files of a run: complete or absent, with a checksum of every page.

They are written and may be read in groups of ``GROUP`` rows, so that a table may be larger than
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import Code, UserError
from common.files import atomic

GROUP = 8_192
"""Rows of a group: 12 MB of handcrafted signals, some 40 MB of battles."""

MADE_BY = "extract.py, or finetune.py for logits"
"""Commands that make the tables of views and battles."""


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table atomically; equal tables give equal bytes."""
    write_groups(path, [table])


def write_groups(
    path: Path, tables: Iterable[pa.Table], notes: Callable[[], Mapping[str, str]] = dict
) -> None:
    """Write tables of one schema, at least one, as one file, atomically, as they come.

    Args:
        path: where to.
        tables: successive rows.
        notes: returns the metadata for :func:`read_notes`; called after the last table.
    """
    parts = iter(tables)
    first = next(parts)
    with (
        atomic(path) as temporary,
        pq.ParquetWriter(temporary, first.schema, write_page_checksum=True) as writer,
    ):
        for table in chain([first], parts):
            writer.write_table(table, GROUP)
        writer.add_key_value_metadata(dict(notes()))


def read_table(
    path: Path, made_by: str = MADE_BY, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read a table that :func:`write_table` wrote.

    Args:
        path: of the file.
        made_by: the command that the message names if the file is damaged.
        columns: those to read, of which any may be missing; by default all.

    Raises:
        UserError: it is cut short or changed.
    """
    with _undamaged(path, made_by):
        return pq.ParquetFile(path, page_checksum_verification=True).read(columns)


def read_groups(path: Path) -> Iterator[pa.Table]:
    """Read a table group by group; one empty table if it has no rows.

    Raises:
        UserError: it is cut short or changed.
    """
    with _undamaged(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        if not file.num_row_groups:
            yield file.read()
        for i in range(file.num_row_groups):
            yield file.read_row_group(i)


def read_notes(path: Path) -> dict[str, str]:
    """The metadata of a file: the notes it was written with, and those of its schema.

    Raises:
        UserError: it is cut short or changed.
    """
    with _undamaged(path):
        metadata = pq.read_metadata(path).metadata or {}
        return {key.decode(): value.decode() for key, value in metadata.items()}


@contextmanager
def _undamaged(path: Path, made_by: str = MADE_BY) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(path, error, made_by) from error


def damaged(path: Path, error: Exception, made_by: str = MADE_BY) -> UserError:
    """The error for a table whose content is not that of ``write_table``."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(
        Code.RUN_FILE_DAMAGED,
        f"{path} is damaged ({reason}). Rerun the command that made it: {made_by}.",
    )
