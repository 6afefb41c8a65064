"""Cells of text that are plainly a list: as JSON, as Python writes it, or as numpy prints it.

pandas writes a list into a CSV as Python does (``['a', 'b']``), a numpy array without its commas.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from typing import Any

from arena.cells import Cells, Damaged

LEAST_SHARE = 0.05
"""A column in which fewer cells are lists is one of plain texts. Hardly any prompt or answer is a
list of texts by itself."""

DEEPEST = 20
"""Levels of brackets of a Python literal; a message with parts has four."""

OPENING = re.compile(r"\s*(?:[\[{]|array\()")
TUPLE = re.compile(r"\s*\(\s*['\"\[{]")
TWICE = re.compile(r'\s*"[\s\[{]+\\"')
"""The start of a list that was written as JSON twice."""

BROKEN = re.compile(r"\s*\[\s*(?:['\"\[{]|None|null|nan|\w+\()")
"""The start of what can hardly be anything but a list of texts, even if it cannot be read."""

TOKEN = re.compile(
    r"""(?P<space>\s++)
    |(?P<text>'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+")
    |(?P<dtype>,\s*dtype\s*=\s*object)
    |(?P<array>(?:array|list)(?=\())
    |(?P<word>None|True|False|nan|-?\d+(?:\.\d*)?(?:e[+-]?\d+)?)
    |(?P<open>[\[{(])
    |(?P<close>[\]})])
    |(?P<mark>[,:])""",
    re.VERBOSE,
)
MISSING = ("", "null", "None", "nan", "NaN")
"""Cells of a column of lists that hold nothing."""


def structure(cell: str) -> list[Any] | dict[str, Any] | Damaged | None:
    """The list in a cell of text.

    Returns:
        A list of texts, nulls, messages or lists; one message (a dict with its role); ``Damaged``
        for what begins as a list and is none; ``None`` for any other text.
    """
    if not OPENING.match(cell):
        return _unusual(cell)
    try:
        value = json.loads(cell, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        value = python_literal(cell)
        if value is None:
            return Damaged("is not JSON")
    if isinstance(value, dict):
        return value if {"role", "from"} & value.keys() else None
    if not isinstance(value, list):
        return Damaged("is not a list")
    if not all(item is None or isinstance(item, str | dict | list) for item in value):
        return Damaged("is not a list of texts")
    return value


def _unusual(cell: str) -> list[Any] | dict[str, Any] | None:
    """The list in a tuple of Python, or in JSON that is a text of JSON; ``None`` in other texts."""
    value: Any = None
    if TUPLE.match(cell):
        value = python_literal(cell)
        value = json.dumps(value) if isinstance(value, tuple) else None
    elif TWICE.match(cell):
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            return None
    found = structure(value) if isinstance(value, str) and OPENING.match(value) else None
    return found if isinstance(found, list | dict) else None


def python_literal(cell: str) -> Any:
    """The value of a literal of lists, dicts, texts, numbers; ``None`` where the text is none."""
    pieces: list[str] = []
    place, depth, after_value = 0, 0, False
    while place < len(cell):
        token = TOKEN.match(cell, place)
        if token is None:
            return None
        place = token.end()
        kind, text = token.lastgroup, token[0]
        if kind in ("space", "dtype", "array"):
            continue
        if kind in ("text", "word", "open") and after_value:
            pieces.append(",")  # As numpy prints: two values with a blank between them.
        depth += (kind == "open") - (kind == "close")
        if depth > DEEPEST:
            return None
        after_value = kind in ("text", "word", "close")
        pieces.append("None" if text == "nan" else text)
    try:
        return ast.literal_eval("".join(pieces))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


class Structures:
    """Reads the cells of a file's text columns as what they are: lists, or plain text.

    Where at least half of a column's cells are lists, be they broken ones, every list is read as
    one; a cell that begins as a list and is none is damaged, and an empty one is missing. Where
    fewer are, a list is read as one if the row's other texts have as many turns: in a column of
    both kinds, or in a row in which every text is a list. All other cells are one literal turn,
    whatever they look like.

    Attributes:
        mixed: after ``settle``: by column of both kinds, number of lists and of other cells.
    """

    def __init__(self, columns: Iterable[str]) -> None:
        """Start with no rows; ``columns`` are the candidates."""
        self._counts = {name: [0, 0] for name in columns}
        """Number of cells that are no list, and of those that are, by column."""
        self._broken = dict.fromkeys(self._counts, 0)
        """Number of those cells that are plainly meant to be a list."""
        self._always: set[str] = set()
        self.mixed: dict[str, tuple[int, int]] = {}

    def see(self, cells: Cells) -> None:
        """Count the texts of one more row."""
        for name, counts in self._counts.items():
            cell = cells.get(name)
            if isinstance(cell, str) and cell:
                value = structure(cell)
                counts[isinstance(value, list | dict)] += 1
                self._broken[name] += isinstance(value, Damaged) and bool(BROKEN.match(cell))

    def settle(self) -> None:
        """Decide about each column, after all rows were counted."""
        for name, (texts, lists) in self._counts.items():
            meant = lists + self._broken[name]
            if meant and 2 * meant >= lists + texts:
                self._always.add(name)
            if lists and texts and lists >= LEAST_SHARE * (lists + texts):
                self.mixed[name] = lists, texts

    def decode(self, cells: dict[str, Any]) -> None:
        """Decode the cells of a row in place."""
        texts = {name: cell for name in self._counts if isinstance(cell := cells.get(name), str)}
        values = {name: structure(cell) for name, cell in texts.items()}
        are_lists = all(isinstance(value, list | dict) for value in values.values())
        chosen: dict[str, Any] = {}
        for name, value in values.items():
            if name in self._always:
                if value is not None:
                    cells[name] = value
                elif texts[name].strip() in MISSING:
                    cells[name] = None
            elif isinstance(value, list | dict) and value and (name in self.mixed or are_lists):
                chosen[name] = value
        if chosen and len({_turns({**cells, **chosen}[name]) for name in texts} - {0}) <= 1:
            cells.update(chosen)


def _turns(value: Any) -> int:
    """Turns of a text or a list of texts; 0 for messages, which tell their turns themselves."""
    items = value if isinstance(value, list) else [value]
    return 0 if any(isinstance(item, dict | list) for item in items) else len(items)
