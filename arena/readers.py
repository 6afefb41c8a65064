"""Any public file of battles to the canonical table of ``arena.battle``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from arena.battle import COLUMNS, UNKNOWN, Turns, digest
from arena.errors import UserError
from arena.groups import assign_groups
from arena.layouts import COLUMNS as READ_COLUMNS
from arena.layouts import (
    Battle,
    Cells,
    DamagedRowError,
    Layout,
    decode_json,
    layout_of,
    winner_columns,
    winner_of,
)
from arena.sources import Row, is_encodable, read_source

LONGEST = 2_000_000
"""Characters of one cell; the longest answer of LMSYS train.csv has 53 thousand."""

LONGEST_ID = 200
"""Characters of an id; a longer one is text that slipped into the wrong column."""

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What ends a line or a cell of a CSV for some reader, or cannot be seen."""

FORMULA = re.compile(r'(?:^|[;,])[\s"]*[=+\-@\uff1d\uff0b\uff0d\uff20]')
"""Where a cell of a spreadsheet begins that may be a formula, whatever parts cells there; East
Asian locales take full-width signs, too."""

CALL = re.compile(r"[(|!#\[]")
"""What a formula calls or links something with; -Xf3 and -5 do no harm."""

SURROGATE = re.compile("[\ud800-\udfff]")
NOTHING = Battle([], [], [])


def read_battles(source: str, *, labelled: bool, limit: int | None = None) -> pd.DataFrame:
    """Read a file of battles: one row out for each data row in, in the file's order.

    A row that cannot be used keeps its place, with a ``reason``, no texts, and its id where that
    can be read (else its number). A battle that occurs twice under two ids stays twice: both rows
    share ``key``, by which the store of evidence computes them once, and ``group``, so that neither
    is scored by a model that saw the other.

    A file of chosen / rejected pairs is accepted as a test file too: its votes serve to score the
    predictions on a hold-out.

    Args:
        source: local path or any URL that fsspec opens; CSV, parquet or JSONL, gzipped or not, in
            one of ``arena.layouts.LAYOUTS``.
        labelled: whether this is a training file, in which a row without exactly one winner is set
            aside. In a test file votes are optional, and a vote that cannot be read is unknown.
        limit: keep the first so many rows.

    Returns:
        The canonical table, with all columns of ``arena.battle.COLUMNS``.

    Raises:
        UserError: no row of the file can be used.
    """
    found = read_source(source, READ_COLUMNS, limit)
    layout = layout_of(source, found.columns)
    winners = winner_columns(source, found.columns, labelled) if layout.voted else ()
    id_column = next((name for name in layout.ids if name in found.columns), None)
    if layout.needs_id and id_column is None and not labelled:
        raise UserError(f"{source} has no column id: add one, a submission is keyed by it")
    if not found.rows:
        raise UserError(f"{source} has no rows: give at least one battle")
    set_aside_long_cells(found.rows)
    decode_json(found.rows, dict.fromkeys([*layout.texts, "prompt"]))
    seen: set[str] = set()
    records = []
    for number, row in enumerate(found.rows):
        name = _id(row.cells.get(id_column)) if id_column else str(number)
        reason = ""
        try:
            if not name:
                raise DamagedRowError(
                    row.damage or f"{id_column} is missing, too long, a formula or not one line"
                )
            battle = _battle(layout, winners, row, labelled)
            if name in seen:
                raise DamagedRowError(f"{id_column} is that of an earlier row")
        except DamagedRowError as damage:
            battle, reason = NOTHING, str(damage)
        seen.add(name)
        models = (_text(row.cells.get(column)) for column in ("model_a", "model_b"))
        records.append((name or str(number), number, *battle, *models, reason, digest(battle[:3])))
    if labelled and all(record[-2] for record in records):
        raise UserError(f"{source}: every row is damaged, the first one: {records[0][-2]}")
    return _table(records)


def rejected(battles: pd.DataFrame) -> pd.DataFrame:
    """The rows set aside, with the columns row, id, reason."""
    return battles.loc[battles["reason"] != "", ["row", "id", "reason"]].reset_index(drop=True)


def set_aside_long_cells(rows: Iterable[Row]) -> None:
    """Drop texts over ``LONGEST``, before anything takes its time to decode them."""
    for row in rows:
        for name, cell in list(row.cells.items()):
            if isinstance(cell, str) and len(cell) > LONGEST:
                row.damage = row.damage or _too_long(name, len(cell))
                del row.cells[name]


def _too_long(name: str, size: int) -> str:
    return f"{name} has {size:,} characters, more than {LONGEST:,}"


def _battle(layout: Layout, winners: Sequence[str], row: Row, labelled: bool) -> Battle:
    """The sound battle of a row; ``DamagedRowError`` where it has none."""
    if row.damage:
        raise DamagedRowError(row.damage)
    battle = layout.read(row.cells)
    texts = dict(zip(Battle._fields[:3], battle[:3], strict=True))
    for name, turns in texts.items():
        size = sum(len(turn or "") for turn in turns)
        if size > LONGEST:
            raise DamagedRowError(_too_long(name, size))
    if not any(turn for turns in texts.values() for turn in turns):
        raise DamagedRowError("prompt and answers are empty")
    label = _label(winners, row.cells, labelled) if layout.voted else battle.label
    if labelled and label == UNKNOWN:
        raise DamagedRowError("no winner")
    prompt, response_a, response_b = (_clean(turns) for turns in texts.values())
    return Battle(prompt, response_a, response_b, label)


def _label(winners: Sequence[str], cells: Cells, labelled: bool) -> int:
    """The label that the winner columns tell."""
    if not winners:
        return UNKNOWN
    try:
        return winner_of(cells, winners)
    except DamagedRowError:
        if labelled:
            raise
        return UNKNOWN


def _clean(turns: Turns) -> list[str | None]:
    """Turns with U+FFFD for lone surrogates, which neither UTF-8 nor parquet can carry."""
    return [turn if turn is None else _text(turn) for turn in turns]


def _text(cell: Any) -> str:
    """A cell as text, "" where there is none."""
    text = "" if cell is None else str(cell)
    return text if is_encodable(text) else SURROGATE.sub("\ufffd", text)


def _id(cell: Any) -> str:
    """An id as text, "" where it is missing or cannot be one."""
    name = _text(cell)
    return name if len(name) <= LONGEST_ID and is_plain(name) else ""


def is_plain(name: str) -> bool:
    """Whether an id can stand in a CSV as it is: one line, and no formula of a spreadsheet."""
    if CONTROL.search(name):
        return False
    formula = FORMULA.search(name)
    return formula is None or not CALL.search(name, formula.end())


def _table(records: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """The canonical table of records that have all of its columns but the group."""
    columns = [list(values) for values in zip(*records, strict=True)]
    table = pd.DataFrame(dict(zip(COLUMNS[:-1], columns, strict=True)))
    table = table.astype({"row": np.int64, "label": np.int8})
    return table.assign(group=assign_groups(table))
