"""Excel workbooks, by openpyxl, which is installed with ``tiebreak[excel]``."""

from __future__ import annotations

import datetime
import itertools
import sys
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from arena.column_names import match_columns
from arena.rows import Row, Stream
from arena.unpack import first_line
from common.errors import Code, UserError

MOST_ROWS = 2**20
"""Rows that a sheet can have; a damaged number of a row stands for as many empty ones."""

LONGEST_CELL = 32_767
"""Characters that Excel keeps of a text."""


def read_excel(source: str, path: Path, wanted: Collection[str], limit: int | None) -> Stream:
    """Read the sheet that has the most wanted columns; its kept cells are all held in memory.

    Args:
        source: what a message calls the workbook.
        path: the workbook.
        wanted: columns whose cells are kept.
        limit: keep the first so many rows.

    Raises:
        UserError: openpyxl is not installed, or the workbook is damaged or empty.
    """
    try:
        import openpyxl
    except ImportError:
        raise UserError(
            Code.READER_MISSING,
            f"{source} is an Excel workbook, which openpyxl reads: `pip install openpyxl`, or save "
            "it as CSV UTF-8.",
        ) from None
    try:
        # Of styles and extensions that it does not know.
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheets = {sheet.title: _lines(sheet) for sheet in book.worksheets}
            headers = {title: _header(lines) for title, lines in sheets.items()}
            filled = {title: header for title, header in headers.items() if header}
            if not filled:
                raise UserError(Code.INPUT_EMPTY, f"{source} is a workbook of empty sheets.")
            columns = {
                title: match_columns(source, header, wanted) for title, header in filled.items()
            }
            best = max(columns, key=lambda title: len(set(columns[title]) & set(wanted)))
            names = columns[best]
            lines = filter(_any, sheets[best])
            rows = [_row(names, line, wanted) for line in itertools.islice(lines, limit)]
    except (UserError, MemoryError):
        raise
    except Exception as error:
        # openpyxl checks little: damaged XML ends in whatever its first use raises.
        raise UserError(
            Code.INPUT_DAMAGED,
            f"{source} is a damaged Excel workbook ({first_line(error)}). Save it again.",
        ) from None
    others = ", ".join(title for title in columns if title != best)
    if others:
        print(f"{source}: sheet {best} is read, not: {others}", file=sys.stderr)
    return Stream(names, rows)


def _lines(sheet: Any) -> Iterator[tuple[Any, ...]]:
    """The rows of a sheet, whatever it says of its size."""
    sheet.reset_dimensions()
    for number, line in enumerate(sheet.iter_rows(values_only=True)):
        if number >= MOST_ROWS:
            raise ValueError(f"a sheet of more than {MOST_ROWS:,} rows")
        yield line


def _header(lines: Iterator[tuple[Any, ...]]) -> list[str]:
    """The names in the first row that is not empty, [] where there is none."""
    names = ["" if c is None else str(c).strip() for c in next(filter(_any, lines), ())]
    while names and not names[-1]:
        names.pop()
    return names


def _any(line: tuple[Any, ...]) -> bool:
    return any(cell not in (None, "") for cell in line)


def _row(names: list[str], line: tuple[Any, ...], wanted: Collection[str]) -> Row:
    row = Row()
    for name, cell in itertools.zip_longest(names, line[: len(names)]):
        if name in wanted:
            row.cells[name] = _cell(cell)
            if isinstance(cell, str) and len(cell) == LONGEST_CELL:
                row.damage = f"{name} was cut by Excel at {LONGEST_CELL:,} characters"
    return row


def _cell(cell: Any) -> Any:
    if isinstance(cell, datetime.date | datetime.time | datetime.timedelta):
        return str(cell)
    return cell
