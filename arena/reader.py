"""Read a file of battles in any public layout into the canonical table of ``arena.schema``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd

from arena.files import (
    Row,
    Stream,
    is_encodable,
    is_foreign,
    open_source,
    refuse_wrong_encoding,
)
from arena.folds import assign_groups
from arena.formats import COLUMNS as READ_COLUMNS
from arena.formats import (
    Battle,
    Cells,
    DamagedRowError,
    JsonColumns,
    Layout,
    layout_of,
    winner_columns,
    winner_of,
)
from arena.ids import id_text, is_plain
from arena.schema import COLUMNS, UNKNOWN, Turns, digest
from common.errors import Code, UserError
from common.parquet import GROUP

LONGEST = 2_000_000
"""Most characters of one cell; the longest answer of LMSYS train.csv has 53 thousand."""

SURROGATE = re.compile("[\ud800-\udfff]")
NO_BATTLE = Battle([], [], [])

REASON = COLUMNS.index("reason")


class BattleFile:
    """An open file of battles whose rows have been scanned once.

    The scan finds out which columns hold JSON and which ids are repeated.

    Attributes:
        source: its path or URL.
    """

    def __init__(self, source: str, stream: Stream, labelled: bool, needs_id: bool = True) -> None:
        """Scan all rows.

        Args:
            source: its path or URL.
            stream: its columns and rows.
            labelled: as for :func:`open_battles`.
            needs_id: whether a test file needs ids if its layout does.

        Raises:
            UserError: its columns fit no layout, it has no row, or it is not UTF-8.
        """
        self.source, self._rows, self._labelled = source, stream.rows, labelled
        self._layout = layout = layout_of(source, stream.columns)
        self._winners = winner_columns(source, stream.columns, labelled) if layout.voted else ()
        self._id = next((name for name in layout.ids if name in stream.columns), None)
        if needs_id and layout.needs_id and self._id is None and not labelled:
            raise UserError(
                Code.COLUMN_MISSING,
                f"{source} has no column id. Add one: a submission needs it.",
            )
        self._json = JsonColumns([*layout.texts, "prompt"])
        names, foreign = bytearray(), 0
        for number, row in enumerate(stream.rows):
            foreign += is_foreign(row)
            set_aside_long_cells(row)
            self._json.see(row.cells)
            # An id contains no control character, so this stand-in cannot collide with one.
            name = self._name(row, number) or f"\0{number}"
            names += sha256(name.encode()).digest()[:16]
        ids = np.frombuffer(bytes(names), dtype="S16")
        if not len(ids):
            raise UserError(Code.INPUT_EMPTY, f"{source} has no rows. Give at least one battle.")
        refuse_wrong_encoding(source, foreign, len(ids))
        _, first = np.unique(ids, return_index=True)
        self._repeated = set(np.setdiff1d(np.arange(len(ids)), first).tolist())

    def parts(self) -> Iterator[pd.DataFrame]:
        """The canonical table in parts of ``GROUP`` rows, its column ``group`` still empty.

        Raises:
            UserError: after the last part, where none of the rows of a training file can be used.
        """
        records = enumerate(self._rows)
        first_reason, any_valid = "", False
        while part := [self._record(*numbered) for numbered in itertools.islice(records, GROUP)]:
            reasons = [record[REASON] for record in part]
            first_reason, any_valid = first_reason or reasons[0], any_valid or "" in reasons
            yield _table(part)
        if self._labelled and not any_valid:
            raise UserError(
                Code.ALL_ROWS_DAMAGED,
                f"Every row of {self.source} is damaged; the first one: {first_reason}.",
            )

    def _name(self, row: Row, number: int) -> str:
        return _id(row.cells.get(self._id)) if self._id else str(number)

    def _record(self, number: int, row: Row) -> tuple[Any, ...]:
        """The values of a row in the canonical table, without its group."""
        set_aside_long_cells(row)
        self._json.decode(row.cells)
        name, reason = self._name(row, number), ""
        try:
            if not name:
                raise DamagedRowError(
                    row.damage or f"{self._id} is missing, too long, a formula or not one line"
                )
            battle = read_row(self._layout, self._winners, row, self._labelled)
            if number in self._repeated:
                raise DamagedRowError(f"{self._id} is that of an earlier row")
        except DamagedRowError as damage:
            battle, reason = NO_BATTLE, str(damage)
        models = (_text(row.cells.get(column)) for column in ("model_a", "model_b"))
        key = digest(battle[:3])
        own = name if self._id else ""
        return name or str(number), number, *battle, None, 1.0, *models, own, reason, key


@contextmanager
def open_battles(source: str, *, labelled: bool, limit: int | None = None) -> Iterator[BattleFile]:
    """Open a file of battles that may be larger than memory.

    The table has one row for each data row. A row that cannot be used keeps its place, with a
    ``reason``, no texts, and its id if that can be read (else its row number). A battle that occurs
    under two ids keeps both rows: they share ``key``, by which caches compute them once, and
    ``group``, so that neither is scored by a model that saw the other.

    A file of chosen / rejected pairs is accepted as a test file, too: its votes serve to score
    predictions on a hold-out.

    Args:
        source: local path or any URL that fsspec opens; CSV, parquet or JSONL, gzipped or not, in
            one of ``arena.formats.LAYOUTS``.
        labelled: whether this is a training file, in which a row without exactly one winner is
            rejected. In a test file votes are optional, and an unreadable vote is unknown.
        limit: read only the first ``limit`` rows.

    Raises:
        UserError: the file cannot be opened or read.
    """
    with open_source(source, READ_COLUMNS, limit) as stream:
        yield BattleFile(source, stream, labelled)


def read_battles(source: str, *, labelled: bool, limit: int | None = None) -> pd.DataFrame:
    """Read a whole file: see :func:`open_battles`.

    Returns:
        The canonical table, with all of ``arena.schema.COLUMNS``.

    Raises:
        UserError: no row of the file can be used.
    """
    with open_battles(source, labelled=labelled, limit=limit) as file:
        table = pd.concat(file.parts(), ignore_index=True)
    return table.assign(group=assign_groups(table))


def rejected_rows(battles: pd.DataFrame) -> pd.DataFrame:
    """The rows that cannot be used, with the columns row, id, reason."""
    return battles.loc[battles["reason"] != "", ["row", "id", "reason"]].reset_index(drop=True)


def valid_rows(battles: pd.DataFrame) -> pd.DataFrame:
    """The rows that can be used."""
    return battles[battles["reason"] == ""].reset_index(drop=True)


def set_aside_long_cells(row: Row) -> None:
    """Drop texts over ``LONGEST`` characters before anything spends time on decoding them."""
    for name, cell in list(row.cells.items()):
        if isinstance(cell, str) and len(cell) > LONGEST:
            row.damage = row.damage or _too_long(name, len(cell))
            del row.cells[name]


def _too_long(name: str, size: int) -> str:
    return f"{name} has {size:,} characters, more than {LONGEST:,}"


def read_row(layout: Layout, winners: Sequence[str], row: Row, labelled: bool) -> Battle:
    """The battle of a row, its cells decoded; ``winners`` are the columns that tell the winner.

    Raises:
        DamagedRowError: the row cannot be used.
    """
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
    """The label in the winner columns."""
    if not winners:
        return UNKNOWN
    try:
        return winner_of(cells, winners)
    except DamagedRowError:
        if labelled:
            raise
        return UNKNOWN


def _clean(turns: Turns) -> list[str | None]:
    """Turns with U+FFFD for lone surrogates, which neither UTF-8 nor parquet can encode."""
    return [turn if turn is None else _text(turn) for turn in turns]


def _text(cell: Any) -> str:
    """A cell as text, "" where there is none."""
    text = "" if cell is None else str(cell)
    return text if is_encodable(text) else SURROGATE.sub("\ufffd", text)


def _id(cell: Any) -> str:
    """An id as text, "" where it is missing or cannot be one."""
    name = id_text(_text(cell))
    return name if is_plain(name) else ""


def _table(records: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """The canonical table of records, its column ``group`` still empty."""
    columns = [list(values) for values in zip(*records, strict=True)]
    table = pd.DataFrame(dict(zip(COLUMNS[:-1], columns, strict=True)))
    return table.astype({"row": np.int64, "label": np.int8, "soft_label": object}).assign(group="")
