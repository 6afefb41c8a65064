"""CSV with any separator, read strictly: a stray quote must not make one row of many unnoticed."""

from __future__ import annotations

import csv
import itertools
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import TextIO

from arena.column_names import match_columns, wanted_names
from arena.rows import NOT_UTF8, Row, Rows, Stream, is_encodable, wrong_encoding
from common.errors import Code, UserError

SEPARATORS = (",", "\t", ";", "|")
"""Characters that may stand between the cells of a text; the first one does where none fits."""

NAMED_SEPARATOR = re.compile(r'"?sep=(.)"?[\r\n]*')
"""A first line that tells Excel the separator."""

BACKSLASH = re.compile(r'\\"')
"""A quote as Spark writes it; its option escape='"' doubles it."""

BINARY = re.compile(r"[\x00-\x08\x0e-\x1f]")
"""Characters that no name of a column has."""

LOOKAHEAD = 200
"""Lines that one row may have to be recognised as a valid row after a damaged one."""

LONGEST_FIELD = 2**31 - 1
"""Characters that the csv module accepts in one field: the largest C long of every platform."""


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


def header_and_records(
    text: Iterator[str], separator: str = ","
) -> tuple[list[str], Iterator[tuple[list[str], str]]]:
    """The first record of a CSV that is no empty line, and those that follow it.

    Args:
        text: lines with their ends.
        separator: the character between two cells.

    Returns:
        Cells of the header, [] where it cannot be read; then cells and damage ("" for a valid one)
        of each record. Reading goes on at the next row after a damaged one.
    """
    csv.field_size_limit(LONGEST_FIELD)
    lines = _Lines(text)
    try:
        header = next(filter(None, csv.reader(lines, delimiter=separator, strict=True)))
    except (csv.Error, StopIteration):
        header = []
    return header, _records(lines, len(header), separator)


def _records(lines: _Lines, width: int, separator: str) -> Iterator[tuple[list[str], str]]:
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        lines.record = []
        damage = ""
        try:
            cells = next(reader, None)
        except csv.Error as error:
            damage = f"a quote is neither closed nor doubled ({error})"
            if BACKSLASH.search(lines.record[0]):
                damage = "a quote is escaped by a backslash, not doubled"
            cells = next(csv.reader(lines.record[:1], delimiter=separator))
        if cells is None:
            return
        if not cells:
            continue
        if not damage and len(cells) != width:
            damage = f"{len(cells)} cells where the header has {width}"
        rest = lines.record[1:]
        if damage and rest:
            # A valid row may begin among the lines of the damaged one, and end after them.
            ahead = rest + list(itertools.islice(lines, LOOKAHEAD))
            starts = (
                i
                for i in range(len(rest))
                if _starts_row(ahead[i : i + LOOKAHEAD], width, separator)
            )
            lines.put_back(ahead[next(starts, len(rest)) :])
        yield cells, damage


def _starts_row(lines: list[str], width: int, separator: str) -> bool:
    """Whether a row of ``width`` cells begins here, be it a damaged one of a single line."""
    if len(next(csv.reader(lines[:1], delimiter=separator), [])) == width:
        return True
    try:
        return len(next(csv.reader(lines, delimiter=separator, strict=True), [])) == width
    except csv.Error:
        return False


def read_csv(
    source: str, read: Callable[[], TextIO], wanted: Collection[str], limit: int | None
) -> Stream:
    """Open a CSV.

    Args:
        source: what a message calls the file.
        read: opens the text.
        wanted: columns whose cells are kept.
        limit: keep the first so many rows.

    Raises:
        UserError: the file has no named columns, or is no text.
    """
    separator, header = _separator_and_header(read, wanted)
    columns = [name.strip() for name in header]
    if any(BINARY.search(name) for name in columns):
        raise UserError(
            Code.INPUT_ENCODING,
            f"{source} is neither text nor a file of a known kind. Give a CSV, JSON, parquet, "
            "Arrow or Excel file.",
        )
    if not all(map(is_encodable, columns)):
        raise wrong_encoding(source)
    if len(columns) < 2:
        raise UserError(
            Code.INPUT_FORMAT,
            f"{source} has no named columns: it begins with {''.join(columns)[:40]!r}. Give a CSV, "
            "JSON, parquet, Arrow or Excel file.",
        )
    names = match_columns(source, columns, wanted)

    def rows() -> Iterator[Row]:
        _, records = header_and_records(_lines(read), separator)
        for cells, damage in itertools.islice(records, limit):
            yield _row(cells, damage, names, wanted)

    return Stream(names, Rows(rows))


def has_wanted_header(read: Callable[[], TextIO], wanted: Collection[str]) -> bool:
    """Whether a text begins with names of columns, at least one of which is wanted."""
    _, header = _separator_and_header(read, wanted)
    return len(header) > 1 and wanted_names(header, wanted) > 0


def _separator_and_header(
    read: Callable[[], TextIO], wanted: Collection[str]
) -> tuple[str, list[str]]:
    """The separator under which the header has the most wanted names, else the most names."""
    with read() as text:
        named = NAMED_SEPARATOR.fullmatch(text.readline(10))
    headers = {
        separator: header_and_records(_lines(read), separator)[0]
        for separator in ([named[1]] if named else SEPARATORS)
    }
    best = max(headers, key=lambda s: (wanted_names(headers[s], wanted), len(headers[s]) > 1))
    return best, headers[best]


def _lines(read: Callable[[], TextIO]) -> Iterator[str]:
    """The lines of a text, less one that only names the separator."""
    with read() as text:
        first = text.readline()
        if not NAMED_SEPARATOR.fullmatch(first):
            yield first
        yield from text


def _row(cells: list[str], damage: str, columns: list[str], wanted: Collection[str]) -> Row:
    row = Row({n: c for n, c in zip(columns, cells, strict=False) if n in wanted}, damage)
    if not damage:
        foreign = [name for name, cell in row.cells.items() if not is_encodable(cell)]
        row.damage = f"{foreign[0]} {NOT_UTF8}" if foreign else ""
    return row
