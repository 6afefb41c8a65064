"""JSON in every arrangement: a line each, one list, indented objects, a table by columns.

The standard library decodes each value: it takes NaN and whole numbers of any size, and bounds the
depth. Streaming parsers do neither.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TextIO

from arena.column_names import match_columns, wanted_names
from arena.rows import NOT_UTF8, Row, Rows, Stream, is_encodable
from arena.structures import python_literal
from common.errors import Code, UserError

CHUNK = 2**16
"""Characters that are read at a time, at least."""

MOST_VALUE = 2**28
"""Characters of one value; a file that is one value, such as a table by columns, is held in
memory."""

BLANK = re.compile(r"[\s\ufeff]*")

TOKEN = 12
"""An error so near to the end of what is read may come from a word that is cut there."""

FIRST_LINES = 20
"""Lines among which one must be an object where the first is damaged."""

BOM = "\ufeff"

PYTHON = re.compile(r"\s*\{\s*'")
"""The start of an object as Python prints it."""

MOST_LITERAL = 2**22
"""Characters of an object of Python, whose syntax tree takes a hundred times as much."""


class DamagedJSONError(Exception):
    """The text is no JSON from here on."""


class _Decoder(json.JSONDecoder):
    """A decoder that takes NaN and infinity as missing, and tells of a key that stands twice."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=self._object, parse_constant=lambda _: None)
        self.repeated = ""

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            self.repeated = next(name for name in names if names.count(name) > 1)
        return content


class _Values:
    """The values of a text one after the other; memory holds one, and the text around it."""

    def __init__(self, text: TextIO) -> None:
        self._text, self._buffer, self._at = text, "", 0
        self.decoder = _Decoder()

    def _more(self) -> bool:
        """Read on, as much again as there is; whether there was more."""
        rest = self._buffer[self._at :]
        if len(rest) > MOST_VALUE:
            raise DamagedJSONError(f"a value has more than {MOST_VALUE:,} characters")
        chunk = self._text.read(max(CHUNK, len(rest)))
        self._buffer, self._at = rest + chunk, 0
        return bool(chunk)

    def next(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            self._at = BLANK.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def skip(self) -> None:
        """Pass over the character that :meth:`next` told."""
        self._at += 1

    def rest_of_line(self) -> str:
        """What follows on the line, as far as it is read."""
        return re.split("[\r\n]", self._buffer[self._at :], maxsplit=1)[0]

    def take(self) -> tuple[Any, str]:
        """The value that comes next, and its text."""
        self.next()
        while True:
            self.decoder.repeated = ""
            try:
                value, end = self.decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string")
                cut = cut or error.pos > len(self._buffer) - TOKEN
                if not cut or not self._more():
                    raise DamagedJSONError(error.msg) from None
            except (ValueError, RecursionError) as error:
                raise DamagedJSONError(str(error).split(";")[0]) from None
            else:
                # The number 12 may go on.
                if end < len(self._buffer) or not self._more():
                    text = self._buffer[self._at : end]
                    self._at = end
                    return value, text


Item = tuple[Any, str, str]
"""A value, its text, and why it cannot be used ("" where it can)."""


def _lines(text: TextIO) -> Iterator[Item]:
    decoder = _Decoder()
    for line in text:
        line = line.lstrip(BOM)
        if line.strip():
            decoder.repeated = ""
            try:
                yield decoder.decode(line), line, _repeated(decoder)
            except (ValueError, RecursionError):
                value = _python_object(line)
                yield value, line, "" if value else "the line is not JSON"


def _python_object(line: str) -> dict[str, Any] | None:
    """The object in a line that is as Python prints it, not JSON; ``None`` in any other line."""
    if not PYTHON.match(line) or len(line) > MOST_LITERAL:
        return None
    value = python_literal(line)
    return value if isinstance(value, dict) and all(isinstance(n, str) for n in value) else None


def _repeated(decoder: _Decoder) -> str:
    return f"the key {decoder.repeated[:40]!r} stands twice" if decoder.repeated else ""


def _objects(text: TextIO) -> Iterator[Item]:
    values = _Values(text)
    while values.next():
        yield *values.take(), _repeated(values.decoder)


def _list(text: TextIO) -> Iterator[Item]:
    values = _Values(text)
    values.next()
    values.skip()
    if values.next() == "]":
        values.skip()
    else:
        while True:
            yield *values.take(), _repeated(values.decoder)
            sign = values.next()
            values.skip()
            if sign == "]":
                break
            if sign != ",":
                raise DamagedJSONError("Expecting ',' delimiter")
    if values.next():
        raise DamagedJSONError("Extra data after the list")


def _is_object(line: str) -> bool:
    """Whether a line is an object that is not empty, as code in a cell may be."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = _python_object(line)
    return isinstance(value, dict) and bool(value)


def first_character(read: Callable[[], TextIO]) -> str:
    """The first character of a text that is not blank, "" where there is none."""
    with read() as text:
        return _Values(text).next()


def is_json(read: Callable[[], TextIO]) -> bool:
    """Whether one of the first lines is an object, even if the first is damaged."""
    with read() as text:
        start = text.read(CHUNK)
    return any(map(_is_object, start.splitlines()[:FIRST_LINES]))


def read_json(
    source: str, read: Callable[[], TextIO], wanted: Collection[str], limit: int | None
) -> Stream:
    """Open a text of JSON.

    Memory holds one row at a time, unless the file is one value that wraps the rows.

    Args:
        source: what a message calls the file.
        read: opens the text.
        wanted: columns whose cells are kept.
        limit: keep the first so many rows.

    Raises:
        UserError: a list or indented objects are damaged; of lines, only the damaged are lost.
    """
    items = _arrangement(read)

    def every() -> Iterator[Item]:
        with read() as text:
            yield from items(text)

    columns: dict[str, None] = {}
    count, only = 0, None
    try:
        # Any row may bring a column.
        for count, (value, _, _) in enumerate(itertools.islice(every(), limit), 1):
            columns.update(dict.fromkeys(value if isinstance(value, dict) else ()))
            only = value if count == 1 else None
    except DamagedJSONError as damage:
        advice = "Download or write it again; Python writes JSON by `json.dumps`, not by `str`."
        raise UserError(
            Code.INPUT_DAMAGED, f"{source} is damaged JSON after row {count} ({damage}). {advice}"
        ) from None
    if not count:
        raise UserError(Code.INPUT_EMPTY, f"{source} is an empty JSON list. Give at least one row.")
    names = match_columns(source, list(columns), wanted)
    if isinstance(only, dict) and items is not _list and (table := _table(only, names, wanted)):
        columns = dict.fromkeys(name for row in table for name in row)
        names = match_columns(source, list(columns), wanted)
        spelled = dict(zip(columns, names, strict=True))
        return Stream(names, [_row(row, "", spelled, wanted) for row in table[:limit]])
    spelled = dict(zip(columns, names, strict=True))

    def rows() -> Iterator[Row]:
        for value, text, damage in itertools.islice(every(), limit):
            row = _row(value, damage, spelled, wanted)
            if not row.damage and not is_encodable(text):
                row.damage = f"the row {NOT_UTF8}"
            yield row

    return Stream(names, Rows(rows))


def _row(value: Any, damage: str, spelled: dict[str, str], wanted: Collection[str]) -> Row:
    if damage or not isinstance(value, dict):
        return Row(damage=damage or "the row is not a JSON object")
    cells = ((spelled[name], cell) for name, cell in value.items())
    return Row({name: cell for name, cell in cells if name in wanted})


def _arrangement(read: Callable[[], TextIO]) -> Callable[[TextIO], Iterator[Item]]:
    """How the rows stand in a text of JSON."""
    with read() as text:
        values = _Values(text)
        first = values.next()
        try:
            _, content = values.take() if first == "{" else (None, "")
        except DamagedJSONError:
            return _lines if is_json(read) else _objects
        if first == "{":
            # What follows on the same line is a second object.
            rest = values.rest_of_line()
            return _objects if "\n" in content or rest.strip() else _lines
    return _list if first == "[" and not _is_damaged_line(read) else _lines


def _is_damaged_line(read: Callable[[], TextIO]) -> bool:
    """Whether a text that begins with a list is one of lines, the first of which is damaged."""
    with read() as text:
        first = text.readline(CHUNK)
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return is_json(read)


def _table(
    value: dict[str, Any], names: Sequence[str], wanted: Collection[str]
) -> list[dict[str, Any]]:
    """The rows in the only value of a file, [] where it is itself a row.

    They are a list under one key, or in one of the ways in which ``DataFrame.to_json`` writes them:
    columns by the number of the row, rows by their number, or names and lists of cells.
    """
    matched = [cell for cell, name in zip(value.values(), names, strict=True) if name in wanted]
    if matched:
        keys = list(matched[0]) if isinstance(matched[0], dict) else []
        if len(matched) > 1 and all(
            isinstance(c, dict) and list(c) == keys for c in value.values()
        ):
            return [{name: cells[key] for name, cells in value.items()} for key in keys]
        return []
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list):
        if all(isinstance(cells, list) and len(cells) == len(columns) for cells in data):
            return [dict(zip(map(str, columns), cells, strict=True)) for cells in data]
        return []
    if all(isinstance(row, dict) and wanted_names(list(row), wanted) > 1 for row in value.values()):
        return list(value.values())
    lists = [cell for cell in value.values() if isinstance(cell, list) and cell]
    rows = lists[0] if len(lists) == 1 else []
    return rows if all(isinstance(row, dict) for row in rows) else []
