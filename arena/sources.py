"""Bytes of a file to rows of cells: CSV, parquet or JSONL, local or remote, gzipped or not.

No row is lost here. One that cannot be read keeps its place, with the reason in ``Row.damage``.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
import zlib
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from arena.errors import UserError

LONGEST_FIELD = 2**31 - 1
"""Characters that the csv module accepts in one field: the largest C long of every platform."""

LOOKAHEAD = 200
"""Lines that one row may have to be recognised as a sound row after a damaged one."""

ENCODINGS = (
    # UTF-32 first: its mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

MOST_UNPACKED, ALWAYS_UNPACKED = 100, 2**28
"""A gzipped file may be so many times its size, and so many bytes in any case. Text packs to a
third or a tenth; what packs to a thousandth was made to fill the memory."""

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


@dataclass
class Source:
    """A file as read.

    Attributes:
        columns: names of all columns in the file.
        rows: data rows in order.
    """

    columns: list[str]
    rows: list[Row]


def read_source(source: str, wanted: Collection[str], limit: int | None = None) -> Source:
    """Read a file of whatever format, telling it by its content.

    Args:
        source: local path, or any URL that fsspec opens.
        wanted: columns whose cells are kept.
        limit: keep the first so many data rows.

    Raises:
        UserError: the file is not there, empty, or neither CSV nor parquet nor JSONL.
    """
    data = _bytes(source)
    if not data or data.isspace():
        raise UserError(f"{source} is empty: give a file with a header and at least one row")
    if data.startswith(b"PAR1"):
        return _parquet(source, data, wanted, limit)
    encoding = next((e for mark, e in ENCODINGS if data.startswith(mark)), "utf-8-sig")
    # Surrogates stand for undecodable bytes, so that only their row is set aside.
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
    text = io.TextIOWrapper(io.BytesIO(data), encoding, errors, newline="")
    start = text.read(4096).lstrip()
    text.seek(0)
    if start.startswith("["):
        raise UserError(
            f"{source} is one JSON list: give one object a line, e.g. `jq -c '.[]' FILE > NEW`"
        )
    if start.startswith("{") or source.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        found = _jsonl(text, wanted, limit)
    else:
        found = _csv(source, text, wanted, limit)
    if 2 * sum(row.damage.endswith(NOT_UTF8) for row in found.rows) > len(found.rows):
        raise UserError(_wrong_encoding(source))
    return found


def _bytes(source: str) -> bytes:
    try:
        with fsspec.open(source, "rb") as file:
            data: bytes = file.read()
    except FileNotFoundError:
        raise UserError(f"{source} is not there: check the path or URL") from None
    except MemoryError:
        raise
    except Exception as error:
        # Every remote filesystem of fsspec raises errors of its own, with no common base.
        raise UserError(f"{source} cannot be opened ({_what(error)}): check it") from None
    if data.startswith(b"\x1f\x8b"):
        try:
            return _unpacked(source, data)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{source} is damaged gzip ({_what(error)}): get it again") from None
    return data


def _unpacked(source: str, data: bytes) -> bytes:
    """What a gzipped file holds, read no further than its limit."""
    most = max(MOST_UNPACKED * len(data), ALWAYS_UNPACKED)
    found = io.BytesIO()
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        while piece := file.read(2**20):
            if found.tell() + len(piece) > most:
                raise UserError(
                    f"{source} unpacks to more than {most:,} bytes, {MOST_UNPACKED} times its size "
                    "or more: if that is right, unpack it and give the unpacked file"
                )
            found.write(piece)
    return found.getvalue()


def _what(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _wrong_encoding(source: str) -> str:
    return (
        f"{source} is not UTF-8 text: give CSV, parquet or JSONL, "
        "and convert text in another encoding, e.g. `iconv -f LATIN1 -t UTF-8 FILE > NEW`"
    )


def is_encodable(text: str) -> bool:
    """Whether a text is free of lone surrogates, which ``surrogateescape`` makes of stray bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parquet(source: str, data: bytes, wanted: Collection[str], limit: int | None) -> Source:
    rows: list[Row] = []
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        columns = list(file.schema_arrow.names)
        kept = [name for name in columns if name in wanted]
        for batch in file.iter_batches(4096, columns=kept):
            rows.extend(_batch(batch))
            if limit is not None and len(rows) >= limit:
                break
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{source} is not a sound parquet file ({_what(error)}): get it again"
        ) from None
    return Source(columns, rows[:limit])


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


def _jsonl(text: io.TextIOWrapper, wanted: Collection[str], limit: int | None) -> Source:
    rows: list[Row] = []
    columns: dict[str, None] = {}
    for line in itertools.islice((line for line in text if line.strip()), limit):
        row = Row()
        rows.append(row)
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            row.damage = "the line is not JSON"
            continue
        if not isinstance(found, dict):
            row.damage = "the line is not a JSON object"
            continue
        columns |= dict.fromkeys(found)
        row.cells = {name: cell for name, cell in found.items() if name in wanted}
        if not is_encodable(line):
            row.damage = f"the line {NOT_UTF8}"
    return Source(list(columns), rows)


class _Lines:
    """Lines of a file; those of the record being read can be put back."""

    def __init__(self, text: Iterator[str]) -> None:
        self.text = text
        self.waiting: deque[str] = deque()
        self.record: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.waiting.popleft() if self.waiting else next(self.text)
        self.record.append(line)
        return line

    def put_back(self, lines: list[str]) -> None:
        self.waiting.extendleft(reversed(lines))


def _csv(source: str, text: io.TextIOWrapper, wanted: Collection[str], limit: int | None) -> Source:
    """Read CSV strictly: a stray quote must not make one row out of many unnoticed."""
    csv.field_size_limit(LONGEST_FIELD)
    lines = _Lines(text)
    reader = csv.reader(lines, strict=True)
    try:
        columns = [name.strip() for name in next(filter(None, reader))]
    except (csv.Error, StopIteration):
        columns = []
    if any(not is_encodable(name) or any(c < " " for c in name) for name in columns):
        raise UserError(_wrong_encoding(source))
    if len(columns) < 2:
        raise UserError(f"{source} is not a CSV with named columns: give CSV, parquet or JSONL")
    for name in wanted:
        if columns.count(name) > 1:
            raise UserError(f"{source} has more than one column {name}: rename all but one")
    records = _records(lines, len(columns))
    rows = [_row(*record, columns, wanted) for record in itertools.islice(records, limit)]
    return Source(columns, rows)


def _records(lines: _Lines, width: int) -> Iterator[tuple[list[str], str]]:
    """Cells and damage of each record; reading goes on at the next row after a damaged one."""
    reader = csv.reader(lines, strict=True)
    while True:
        lines.record = []
        damage = ""
        try:
            cells = next(reader, None)
        except csv.Error as error:
            damage = f"a quote is neither closed nor doubled ({error})"
            cells = next(csv.reader(lines.record[:1]))
        if cells is None:
            return
        if not cells:
            continue
        if not damage and len(cells) != width:
            damage = f"{len(cells)} cells where the header has {width}"
        rest = lines.record[1:]
        if damage and rest:
            # A sound row may begin among the lines of the damaged one, and end after them.
            ahead = rest + list(itertools.islice(lines, LOOKAHEAD))
            starts = (i for i in range(len(rest)) if _starts_row(ahead[i : i + LOOKAHEAD], width))
            lines.put_back(ahead[next(starts, len(rest)) :])
        yield cells, damage


def _starts_row(lines: list[str], width: int) -> bool:
    """Whether a row of ``width`` cells begins here, be it a damaged one of a single line."""
    if len(next(csv.reader(lines[:1]), [])) == width:
        return True
    try:
        return len(next(csv.reader(lines, strict=True), [])) == width
    except csv.Error:
        return False


def _row(cells: list[str], damage: str, columns: list[str], wanted: Collection[str]) -> Row:
    row = Row({n: c for n, c in zip(columns, cells, strict=False) if n in wanted}, damage)
    if not damage:
        foreign = [name for name, cell in row.cells.items() if not is_encodable(cell)]
        row.damage = f"{foreign[0]} {NOT_UTF8}" if foreign else ""
    return row
