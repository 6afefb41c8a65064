"""Bytes of a file to rows of cells: CSV, parquet or JSONL, local or remote, gzipped or not.

No row is lost here. One that cannot be read keeps its place, with the reason in ``Row.damage``.
"""

from __future__ import annotations

import codecs
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from arena.csv_records import header_and_records
from arena.local_copy import CHUNK_BYTES, first_line, local_copy, read_chunks
from common.errors import Code, UserError

ENCODINGS = (
    # UTF-32 first: its mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

BATCH = 256
"""Rows of parquet that are read at a time."""

NOT_UTF8 = "holds bytes that are not UTF-8"


@dataclass
class Row:
    """One data row.

    Attributes:
        cells: column name -> cell; a column that the row lacks is absent.
        damage: why the row cannot be used, "" where it can.
    """

    cells: dict[str, Any] = field(default_factory=dict)
    damage: str = ""


class Rows(Iterable[Row]):
    """The data rows of a file in order; each iteration reads the file anew."""

    def __init__(self, read: Callable[[], Iterator[Row]]) -> None:
        """Each call of ``read`` begins at the first row."""
        self._read = read

    def __iter__(self) -> Iterator[Row]:
        """Read from the first row on."""
        return self._read()


@dataclass
class Stream:
    """A file that is open.

    Attributes:
        columns: names of all columns in the file.
        rows: data rows in order; memory holds a few of them at a time.
    """

    columns: list[str]
    rows: Iterable[Row]


@dataclass
class Source(Stream):
    """A file as read, ``rows`` being a list."""

    rows: list[Row]


def read_source(source: str, wanted: Collection[str]) -> Source:
    """Read a file as a whole; see :func:`open_source`.

    Raises:
        UserError: also where most rows are not UTF-8.
    """
    with open_source(source, wanted) as stream:
        file = Source(stream.columns, list(stream.rows))
    refuse_wrong_encoding(source, sum(map(is_foreign, file.rows)), len(file.rows))
    return file


@contextmanager
def open_source(source: str, wanted: Collection[str], limit: int | None = None) -> Iterator[Stream]:
    """Open a file; its format is recognised by its content.

    A remote or packed file is copied to a temporary file.

    Args:
        source: local path, or any URL that fsspec opens.
        wanted: columns whose cells are kept.
        limit: keep the first so many data rows.

    Raises:
        UserError: the file is not there, empty, or neither CSV nor parquet nor JSONL; for parquet
            also while its rows are read.
    """
    with local_copy(source) as path:
        yield _stream(source, path, wanted, limit)


def _stream(source: str, path: Path, wanted: Collection[str], limit: int | None) -> Stream:
    with path.open("rb") as file:
        head = file.read(4096)
        # Blank to the end, however long.
        if all(chunk.isspace() for chunk in itertools.chain([head], read_chunks(file)) if chunk):
            raise UserError(
                Code.INPUT_EMPTY,
                f"{source} is empty. Give a file that has a header and at least one row.",
            )
    if head.startswith(b"PAR1"):
        return _parquet(source, path, wanted, limit)
    encoding = next((e for mark, e in ENCODINGS if head.startswith(mark)), "utf-8-sig")
    # Surrogates stand for undecodable bytes, so that only their row is set aside.
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"

    def lines() -> Iterator[str]:
        with path.open(encoding=encoding, errors=errors, newline="") as text:
            yield from text

    with path.open(encoding=encoding, errors=errors, newline="") as text:
        start = text.read(4096).lstrip()
    if start.startswith("["):
        raise UserError(
            Code.INPUT_FORMAT,
            f"{source} is one JSON list. Write one object a line: `jq -c '.[]' FILE > NEW`",
        )
    if start.startswith("{") or source.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return _jsonl(lines, wanted, limit)
    return _csv(source, lines, wanted, limit)


def _wrong_encoding(source: str) -> str:
    return (
        f"{source} is not UTF-8 text. Convert text in another encoding, for example with "
        "`iconv -f LATIN1 -t UTF-8 FILE > NEW`."
    )


def is_foreign(row: Row) -> bool:
    """Whether a row is damaged by bytes that are not UTF-8."""
    return row.damage.endswith(NOT_UTF8)


def refuse_wrong_encoding(source: str, foreign: int, rows: int) -> None:
    """Raise ``UserError`` where more than half of a file's rows are foreign."""
    if 2 * foreign > rows:
        raise UserError(Code.INPUT_ENCODING, _wrong_encoding(source))


def is_encodable(text: str) -> bool:
    """Whether a text is free of lone surrogates, which ``surrogateescape`` makes of stray bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parquet(source: str, path: Path, wanted: Collection[str], limit: int | None) -> Stream:
    def open_file() -> pq.ParquetFile:
        # Else a column of a group of rows is read whole, and that group may be the file.
        return pq.ParquetFile(path, buffer_size=CHUNK_BYTES, pre_buffer=False)

    def rows() -> Iterator[Row]:
        with _valid_parquet(source), open_file() as file:
            for batch in file.iter_batches(BATCH, columns=kept):
                yield from _batch(batch)

    with _valid_parquet(source), open_file() as file:
        columns = list(file.schema_arrow.names)
    kept = [name for name in columns if name in wanted]
    return Stream(columns, Rows(lambda: itertools.islice(rows(), limit)))


@contextmanager
def _valid_parquet(source: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            Code.INPUT_DAMAGED,
            f"{source} is a damaged parquet file ({first_line(error)}). Download it again.",
        ) from None


def _batch(batch: pa.RecordBatch) -> list[Row]:
    try:
        return [Row(cells) for cells in batch.to_pylist()]
    except UnicodeDecodeError:
        return [_slow_row(batch, i) for i in range(batch.num_rows)]


def _slow_row(batch: pa.RecordBatch, i: int) -> Row:
    """A row read cell by cell, because a string of its batch is not UTF-8."""
    row = Row()
    for name in batch.schema.names:
        try:
            row.cells[name] = batch.column(name)[i].as_py()
        except UnicodeDecodeError:
            row.damage = f"{name} {NOT_UTF8}"
    return row


def _jsonl(
    lines: Callable[[], Iterator[str]], wanted: Collection[str], limit: int | None
) -> Stream:
    columns: dict[str, None] = {}

    def rows() -> Iterator[Row]:
        for line in itertools.islice((line for line in lines() if line.strip()), limit):
            row = Row()
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError):
                row.damage = "the line is not JSON"
            else:
                if isinstance(cells, dict):
                    columns.update(dict.fromkeys(cells))
                    row.cells = {name: cell for name, cell in cells.items() if name in wanted}
                    row.damage = "" if is_encodable(line) else f"the line {NOT_UTF8}"
                else:
                    row.damage = "the line is not a JSON object"
            yield row

    # Any line may bring a column.
    for _ in rows():
        pass
    return Stream(list(columns), Rows(rows))


def _csv(
    source: str,
    lines: Callable[[], Iterator[str]],
    wanted: Collection[str],
    limit: int | None,
) -> Stream:
    header, _ = header_and_records(lines())
    columns = [name.strip() for name in header]
    if any(not is_encodable(name) or any(c < " " for c in name) for name in columns):
        raise UserError(Code.INPUT_ENCODING, _wrong_encoding(source))
    if len(columns) < 2:
        raise UserError(
            Code.INPUT_FORMAT,
            f"{source} has no named columns. Give a CSV, parquet or JSONL file.",
        )
    for name in wanted:
        if columns.count(name) > 1:
            raise UserError(
                Code.COLUMN_AMBIGUOUS,
                f"{source} has more than one column {name}. Rename all but one.",
            )

    def rows() -> Iterator[Row]:
        _, records = header_and_records(lines())
        for cells, damage in itertools.islice(records, limit):
            yield _row(cells, damage, columns, wanted)

    return Stream(columns, Rows(rows))


def _row(cells: list[str], damage: str, columns: list[str], wanted: Collection[str]) -> Row:
    row = Row({n: c for n, c in zip(columns, cells, strict=False) if n in wanted}, damage)
    if not damage:
        foreign = [name for name, cell in row.cells.items() if not is_encodable(cell)]
        row.damage = f"{foreign[0]} {NOT_UTF8}" if foreign else ""
    return row
