"""The columns of a file by the names that a reader wants, however people write them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from common.errors import Code, UserError


def match_columns(source: str, columns: Sequence[str], wanted: Collection[str]) -> list[str]:
    """Spell the columns of a file as they are wanted.

    Case does not matter, and blanks, hyphens and dots are underscores: "Response A" is response_a.

    Args:
        source: what a message calls the file.
        columns: names as the file has them, n.
        wanted: names as a reader knows them.

    Returns:
        n names; a column that nobody wants keeps its own.

    Raises:
        UserError: two columns match one wanted name, and not exactly one is spelled like it.
    """
    names = list(columns)
    places = _places(columns, wanted)
    for name, found in places.items():
        exact = [i for i in found if columns[i] == name]
        if len(exact or found) > 1:
            spellings = ", ".join(repr(columns[i])[:60] for i in exact or found)
            raise UserError(
                Code.COLUMN_AMBIGUOUS,
                f"{source} has more than one column {name} ({spellings}). Rename all but one.",
            )
        names[(exact or found)[0]] = name
    return names


def wanted_names(columns: Sequence[str], wanted: Collection[str]) -> int:
    """How many of the wanted names the columns of a file match."""
    return len(_places(columns, wanted))


def _places(columns: Sequence[str], wanted: Collection[str]) -> dict[str, list[int]]:
    """The positions of the columns that match a wanted name, by that name."""
    by_spelling = {_plain(name): name for name in sorted(wanted)}
    places: dict[str, list[int]] = {}
    for i, column in enumerate(columns):
        name = column if column in wanted else by_spelling.get(_plain(column))
        if name is not None:
            places.setdefault(name, []).append(i)
    return places


def _plain(name: str) -> str:
    return re.sub(r"[\s_.\-]+", "_", name.strip().casefold())
