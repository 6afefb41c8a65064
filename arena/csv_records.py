"""Records of a CSV, read strictly: a stray quote must not make one row out of many unnoticed."""

from __future__ import annotations

import csv
import itertools
from collections import deque
from collections.abc import Iterator

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
    text: Iterator[str],
) -> tuple[list[str], Iterator[tuple[list[str], str]]]:
    """The first record of a CSV that is no empty line, and those that follow it.

    Args:
        text: lines with their ends.

    Returns:
        Cells of the header, [] where it cannot be read; then cells and damage ("" for a valid one)
        of each record. Reading goes on at the next row after a damaged one.
    """
    csv.field_size_limit(LONGEST_FIELD)
    lines = _Lines(text)
    try:
        header = next(filter(None, csv.reader(lines, strict=True)))
    except (csv.Error, StopIteration):
        header = []
    return header, _records(lines, len(header))


def _records(lines: _Lines, width: int) -> Iterator[tuple[list[str], str]]:
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
            # A valid row may begin among the lines of the damaged one, and end after them.
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
