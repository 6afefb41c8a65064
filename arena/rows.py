"""What every reader of files makes of a file: its columns and its rows of cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from common.errors import Code, UserError

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
        columns: names of all columns in the file; one that is wanted is spelled as it is wanted.
        rows: data rows in order; memory holds a few of them at a time.
    """

    columns: list[str]
    rows: Iterable[Row]


@dataclass
class Source(Stream):
    """A file as read, ``rows`` being a list."""

    rows: list[Row]


def is_foreign(row: Row) -> bool:
    """Whether a row is damaged by bytes that are not UTF-8."""
    return row.damage.endswith(NOT_UTF8)


def is_encodable(text: str) -> bool:
    """Whether a text is free of lone surrogates, which ``surrogateescape`` makes of stray bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse_wrong_encoding(source: str, foreign: int, rows: int) -> None:
    """Raise ``UserError`` where more than half of a file's rows are foreign."""
    if 2 * foreign > rows:
        raise wrong_encoding(source)


def wrong_encoding(source: str) -> UserError:
    """What a user is told of text in another encoding."""
    return UserError(
        Code.INPUT_ENCODING,
        f"{source} is not UTF-8 text but, it seems, Latin-1 or Windows-1252. Convert it: "
        "`iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW`, or save it as CSV UTF-8.",
    )
