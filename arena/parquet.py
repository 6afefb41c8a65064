"""Parquet files of a run: whole or not there, with a checksum of every page."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from arena.errors import UserError
from arena.files import atomic


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table atomically; equal tables give equal bytes."""
    with atomic(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_table(path: Path) -> pa.Table:
    """Read what :func:`write_table` wrote.

    Raises:
        UserError: it is cut short or changed.
    """
    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    """What to say of a table that is not as ``write_table`` was given it."""
    what = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(
        f"{path} is damaged ({what}): give the command that made it again (extract.py, or "
        "finetune.py for logits)"
    )
