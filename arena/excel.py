"""Excel workbooks, by openpyxl, which is installed with ``tiebreak[excel]``."""

from __future__ import annotations

import datetime
import itertools
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator
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

Line = tuple[Any, ...]


def read_excel(source: str, path: Path, wanted: Collection[str], limit: int | None) -> Stream:
    """Read the sheet that has the most wanted columns; its kept cells are all held in memory.

    A formula counts as its value; as its text where no program has computed it, because a text that
    begins with = is written as a formula by pandas.

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

    def sheets(data_only: bool) -> dict[str, Any]:
        # A path that does not end in .xlsx would be refused.
        book = openpyxl.load_workbook(file, read_only=True, data_only=data_only)
        return {sheet.title: sheet for sheet in book.worksheets}

    try:
        # The warnings are of styles and extensions that openpyxl does not know.
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            formulas = sheets(data_only=False)
            headers = {title: _header(sheet) for title, sheet in formulas.items()}
            columns = {
                title: match_columns(source, header, wanted)
                for title, (_, header) in headers.items()
                if header
            }
            if not columns:
                raise UserError(Code.INPUT_EMPTY, f"{source} is a workbook of empty sheets.")
            best = max(columns, key=lambda title: len(set(columns[title]) & set(wanted)))
            kept = {i: name for i, name in enumerate(columns[best]) if name in wanted}
            lines = _cells(formulas[best], kept, headers[best][0])
            if any(_is_formula(cell) for line in lines for cell in line):
                values = _cells(sheets(data_only=True)[best], kept, headers[best][0])
                lines = [tuple(map(_value, *both)) for both in zip(lines, values, strict=True)]
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
    filled = filter(_any, lines)
    return Stream(
        columns[best], [_row(kept.values(), line) for line in itertools.islice(filled, limit)]
    )


def _lines(sheet: Any) -> Iterator[Line]:
    """The rows of a sheet, whatever it says of its size."""
    sheet.reset_dimensions()
    for number, line in enumerate(sheet.iter_rows(values_only=True)):
        if number >= MOST_ROWS:
            raise ValueError(f"a sheet of more than {MOST_ROWS:,} rows")
        yield line


def _header(sheet: Any) -> tuple[int, list[str]]:
    """Number of the first row that is not empty, and the names in it, [] where there is none."""
    filled = ((number, line) for number, line in enumerate(_lines(sheet)) if _any(line))
    number, line = next(filled, (0, ()))
    names = ["" if cell is None else str(cell).strip() for cell in line]
    while names and not names[-1]:
        names.pop()
    return number, names


def _cells(sheet: Any, kept: Iterable[int], header: int) -> list[Line]:
    """The kept cells of the rows below the header."""
    lines = itertools.islice(_lines(sheet), header + 1, None)
    return [tuple(line[i] if i < len(line) else None for i in kept) for line in lines]


def _any(line: Line) -> bool:
    return any(cell not in (None, "") for cell in line)


def _is_formula(cell: Any) -> bool:
    # openpyxl has an object for a formula that fills several cells.
    return (isinstance(cell, str) and cell.startswith("=")) or hasattr(cell, "ref")


def _value(formula: Any, value: Any) -> Any:
    return formula if value is None and isinstance(formula, str) else value


def _row(names: Iterable[str], line: Line) -> Row:
    row = Row()
    for name, cell in zip(names, line, strict=True):
        is_time = isinstance(cell, datetime.date | datetime.time | datetime.timedelta)
        row.cells[name] = str(cell) if is_time else cell
        if isinstance(cell, str) and len(cell) == LONGEST_CELL:
            row.damage = f"{name} was cut by Excel at {LONGEST_CELL:,} characters"
    return row
