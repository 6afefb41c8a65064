"""Battles that are no file: a DataFrame, a list of dicts or one pair of answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from arena.battle_rows import ReadOptions, battle_of_row
from arena.battle_table import SCHEMA
from arena.cells import DamagedRowError
from arena.column_names import match_columns
from arena.folds import assign_groups, prompt_hash
from arena.formats import COLUMNS as READ_COLUMNS
from arena.formats import LMSYS, PAIRS
from arena.reader import BattleFile
from arena.rows import Row, Stream
from arena.schema import COLUMNS, B, Turns, digest
from arena.swap import swap_battles
from common.errors import Code, UserError

SOURCE = "the table of battles"
"""What messages call it, in the place of a path."""


def battles_of(
    table: pd.DataFrame | Iterable[Any], *, labelled: bool, chosen_first: bool = False
) -> pd.DataFrame:
    """The canonical table of battles in memory: what ``arena.reader.read_battles`` makes of a file.

    One row out for each row in, in order (for each pair of answers where a row has several). A row
    that cannot be used keeps its place, with a ``reason`` and no texts.

    Args:
        table: a DataFrame or dicts, n rows in one of ``arena.formats.LAYOUTS``. A cell may be text,
            JSON text, a list, a tuple, a numpy array, a dict, or missing (None, NaN). Without a
            column of ids a battle's id is its row number.
        labelled: as for ``arena.reader.open_battles``.
        chosen_first: whether A is the chosen answer of each pair, for what is told to people; by
            default a hash decides, so that no model learns the votes from the sides.

    Returns:
        The columns of ``arena.schema.COLUMNS``, n rows.

    Raises:
        UserError: the columns are of no layout or, where ``labelled``, no row can be used.
    """
    stream = _stream_of(table)
    if not stream.rows and not labelled:
        return pd.DataFrame(SCHEMA.empty_table().to_pandas())
    file = BattleFile([(SOURCE, stream)], labelled, ReadOptions(allow_rejects=1.0), needs_id=False)
    battles = pd.concat(file.parts(), ignore_index=True)
    if chosen_first and file.layout == PAIRS.name:
        turned = battles["label"] == B
        battles = pd.concat([battles[~turned], swap_battles(battles[turned])]).sort_index()
    return battles.assign(group=assign_groups(battles))


def battle_file(
    table: pd.DataFrame | Iterable[Any], *, labelled: bool, options: ReadOptions | None = None
) -> BattleFile:
    """Battles in memory as a file of battles, for what reads files.

    Args:
        table: as for :func:`battles_of`.
        labelled: likewise.
        options: how they are read.

    Raises:
        UserError: the columns are of no layout, or there is no row.
    """
    return BattleFile([(SOURCE, _stream_of(table))], labelled, options, needs_id=False)


def battle_of(
    prompt: str | Turns, response_a: str | Turns, response_b: str | Turns
) -> pd.DataFrame:
    """The canonical table of one battle without a vote.

    Args:
        prompt: its text, or a list with a text (or None) for each turn.
        response_a: answer A, of as many turns.
        response_b: answer B, of as many turns.

    Returns:
        The columns of ``arena.schema.COLUMNS``, 1 row.

    Raises:
        UserError: the numbers of turns differ, all texts are empty, or one is no text.
    """
    texts = {"prompt": prompt, "response_a": response_a, "response_b": response_b}
    row = Row({name: plain(text) for name, text in texts.items()})
    try:
        battle = battle_of_row(LMSYS, LMSYS.answers[0], row)
    except DamagedRowError as damage:
        raise UserError(Code.ROW_DAMAGED, f"The battle cannot be used: {damage}") from None
    values = {
        **battle._asdict(),
        **{"id": "0", "row": 0, "soft_label": None, "weight": 1.0},
        **dict.fromkeys(("model_a", "model_b", "file_id", "reason"), ""),
        **{"key": digest(battle[:3]), "group": prompt_hash(*battle[:3])},
    }
    battles = pd.DataFrame({name: [values[name]] for name in COLUMNS})
    battles["label"] = battles["label"].astype(np.int8)
    return battles


def _stream_of(table: pd.DataFrame | Iterable[Any]) -> Stream:
    return _stream_of_frame(table) if isinstance(table, pd.DataFrame) else _stream_of_dicts(table)


def _stream_of_frame(table: pd.DataFrame) -> Stream:
    names = match_columns(SOURCE, [str(name) for name in table.columns], READ_COLUMNS)
    kept = {i: name for i, name in enumerate(names) if name in READ_COLUMNS}
    columns = [table.iloc[:, i].tolist() for i in kept]
    cells = zip(*columns, strict=True) if kept else iter([()] * len(table))
    return Stream(names, [_row(zip(kept.values(), values, strict=True)) for values in cells])


def _stream_of_dicts(table: Iterable[Any]) -> Stream:
    # Tables of pyarrow and of polars.
    rows = getattr(table, "to_pylist", getattr(table, "to_dicts", None))
    no_table = isinstance(table, str | Mapping | pd.Series | np.ndarray)
    if no_table or not (rows or isinstance(table, Iterable)):
        raise UserError(
            Code.USAGE,
            f"Battles are a DataFrame or a list of dicts, not a {type(table).__name__}.",
        )
    items = list(rows() if rows else table)
    columns = dict.fromkeys(n for item in items if isinstance(item, Mapping) for n in item)
    names = match_columns(SOURCE, [str(name) for name in columns], READ_COLUMNS)
    spelled = dict(zip(columns, names, strict=True))
    return Stream(names, [_row_of(item, spelled) for item in items])


def _row_of(item: Any, spelled: Mapping[Any, str]) -> Row:
    if not isinstance(item, Mapping):
        return Row(damage=f"the row is a {type(item).__name__}, not a dict")
    cells = ((spelled[name], cell) for name, cell in item.items())
    return _row((name, cell) for name, cell in cells if name in READ_COLUMNS)


def _row(cells: Iterator[tuple[str, Any]]) -> Row:
    return Row(
        {
            # Tables that were read from old parquet files hold text as bytes.
            name: cell.decode(errors="replace") if isinstance(cell, bytes) else plain(cell)
            for name, cell in cells
        }
    )


def plain(cell: Any) -> Any:
    """A cell as parquet or JSON would give it: lists, dicts, scalars, None where it is missing."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Mapping):
        return {name: plain(value) for name, value in cell.items()}
    if isinstance(cell, np.ndarray):
        return plain(cell.tolist())
    if isinstance(cell, list | tuple):
        return [plain(value) for value in cell]
    return None if cell is None or cell is pd.NA or cell != cell else cell
