"""Tables by columns: parquet, Arrow files (feather 2) and Arrow streams (``save_to_disk``)."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from arena.column_names import match_columns
from arena.local_copy import unreadable
from arena.rows import NOT_UTF8, Row, Rows, Stream
from arena.unpack import CHUNK_BYTES, first_line
from common.errors import Code, UserError

PARQUET, ARROW, STREAM = "parquet", "Arrow", "Arrow stream"

MARKS = ((b"PAR1", PARQUET), (b"ARROW1\0\0", ARROW), (b"\xff\xff\xff\xff", STREAM))
"""First bytes of each format."""

BATCH = 256
"""Rows that are turned into Python's values at a time."""

MOST_ROWS, ALWAYS_ROWS = 100, 2**20
"""A file may have so many rows a byte, and so many in any case: rows of nothing take no bytes."""


def columnar_format(head: bytes) -> str:
    """The format of a table by columns by its first bytes, "" for another kind of file."""
    return next((name for mark, name in MARKS if head.startswith(mark)), "")


def read_columnar(
    source: str, path: Path, kind: str, wanted: Collection[str], limit: int | None
) -> Stream:
    """Open a table by columns.

    Memory holds one of its batches: some hundred rows of parquet; of Arrow as many as were written
    at once, 1,000 by ``save_to_disk``, 65,536 by pandas.

    Args:
        source: what a message calls the file.
        path: the file.
        kind: as of :func:`columnar_format`.
        wanted: columns whose cells are kept.
        limit: keep the first so many rows.

    Raises:
        UserError: the file is damaged; also while its rows are read.
    """
    with _valid(source, kind):
        found = _schema(path, kind)
    names = match_columns(source, found, wanted)
    kept = {i: name for i, name in enumerate(names) if name in wanted}

    def rows() -> Iterator[Row]:
        with _valid(source, kind):
            batches = _parquet_batches if kind == PARQUET else _arrow_batches
            total, most = 0, max(MOST_ROWS * path.stat().st_size, ALWAYS_ROWS)
            for batch in batches(path, kind, [found[i] for i in kept]):
                total += batch.num_rows
                if total > most:
                    raise ValueError(f"more than {most:,} rows are more than its bytes can hold")
                for first in range(0, batch.num_rows, BATCH):
                    yield from _rows(batch.slice(first, BATCH), list(kept.values()))

    return Stream(names, Rows(lambda: itertools.islice(rows(), limit)))


def _schema(path: Path, kind: str) -> list[str]:
    if kind == PARQUET:
        with _parquet(path) as file:
            return list(file.schema_arrow.names)
    with pa.memory_map(str(path)) as file, _arrow_reader(file, kind) as reader:
        return list(reader.schema.names)


def _parquet(path: Path) -> pq.ParquetFile:
    # Else a column of a group of rows is read whole, and that group may be the file.
    return pq.ParquetFile(path, buffer_size=CHUNK_BYTES, pre_buffer=False)


def _parquet_batches(path: Path, _: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with _parquet(path) as file:
        yield from file.iter_batches(BATCH, columns=columns)


def _arrow_reader(file: pa.NativeFile, kind: str) -> pa.ipc.RecordBatchFileReader:
    return pa.ipc.open_file(file) if kind == ARROW else pa.ipc.open_stream(file)


def _arrow_batches(path: Path, kind: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as file, _arrow_reader(file, kind) as reader:
        batches = (
            (reader.get_batch(i) for i in range(reader.num_record_batches))
            if kind == ARROW
            else iter(reader)
        )
        for batch in batches:
            # Offsets that point out of a buffer would end the process.
            batch.validate(full=True)
            yield batch.select(columns) if columns else batch


@contextmanager
def _valid(source: str, kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise unreadable(source, error) from None
        raise UserError(
            Code.INPUT_DAMAGED,
            f"{source} is a damaged {kind} file ({first_line(error)}). Download it again.",
        ) from None


def _rows(batch: pa.RecordBatch, names: list[str]) -> list[Row]:
    """The rows of a batch; ``names`` are those of its first columns."""
    if not names:
        return [Row() for _ in range(batch.num_rows)]
    batch = pa.RecordBatch.from_arrays(batch.columns, names=names)
    if any(map(_is_binary, batch.schema.types)):
        return [_slow_row(batch, i) for i in range(batch.num_rows)]
    try:
        return [Row(cells) for cells in batch.to_pylist()]
    except UnicodeDecodeError:
        return [_slow_row(batch, i) for i in range(batch.num_rows)]


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _slow_row(batch: pa.RecordBatch, i: int) -> Row:
    """A row read cell by cell: its batch has strings that are not UTF-8, or not marked as such.

    Old writers of parquet do not mark them.
    """
    row = Row()
    for name in batch.schema.names:
        try:
            cell = batch.column(name)[i].as_py()
            row.cells[name] = cell.decode() if isinstance(cell, bytes) else cell
        except UnicodeDecodeError:
            row.damage = f"{name} {NOT_UTF8}"
    return row
