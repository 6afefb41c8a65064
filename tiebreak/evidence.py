"""Evidence without a run: handcrafted signals and embeddings of battles, as tables."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from arena.ids import shown_ids
from arena.in_memory import battles_of
from arena.reader import read_battles, valid_rows
from embeddings.backbone.config import load_config
from embeddings.frozen.language_model import LanguageModel
from features.extraction import extract
from tiebreak.model import Table
from tiebreak.run_record import DEFAULT_BACKBONE


def signals_of(battles: Table | str | Path) -> pd.DataFrame:
    """The handcrafted signals of battles.

    Args:
        battles: n battles in any layout that ``extract.py`` reads: a DataFrame, a list of dicts,
            or the path or URL of a file. Votes are not needed and not looked at.

    Returns:
        One row a battle, in order, indexed by id; float32 columns such as ``style.words.diff``,
        which docs/design/signals.md explains. A row that cannot be used is NaN; a warning says how
        many are, and why the first.

    Raises:
        UserError: the battles are of no layout.
    """
    table = _battles(battles)
    valid = valid_rows(table)
    frame = extract(valid).frame().set_index(_usable(table))
    return _all_rows(frame, table)


def embeddings_of(
    battles: Table | str | Path,
    backbone: str = DEFAULT_BACKBONE,
    *,
    quantization: str | None = None,
) -> pd.DataFrame:
    """The pooled hidden states of both answers of battles, each answer read after its prompt.

    Args:
        battles: as for :func:`signals_of`.
        backbone: a name in ``configs/``, a YAML file or a model folder.
        quantization: overrides the backbone's own.

    Returns:
        One row a battle, in order, indexed by id. For each layer and pooling there are two columns,
        such as ``layer30.mean.a`` and ``layer30.mean.b``, with a vector in each cell, float16 (d,):
        ``np.stack(frame["layer30.mean.a"])`` is (n, d). A row that cannot be used has None.

    Raises:
        UserError: the battles are of no layout, or the backbone cannot be had or run.
    """
    table = _battles(battles)
    states = LanguageModel(load_config(backbone, quantization)).read(valid_rows(table)).states
    columns: dict[str, list[np.ndarray]] = {}
    for number, slot in enumerate(states.slots):
        a, b = states.slot(number)
        columns |= {f"{slot}.a": list(a), f"{slot}.b": list(b)}
    frame = pd.DataFrame(columns, index=_usable(table), dtype=object)
    return _all_rows(frame, table)


def _battles(battles: Table | str | Path) -> pd.DataFrame:
    """The canonical table, with a warning where rows of it cannot be used."""
    if isinstance(battles, str | Path):
        table = read_battles(str(battles), labelled=False)
    else:
        table = battles_of(battles, labelled=False)
    aside = table.loc[table["reason"] != "", "reason"]
    if len(aside):
        warnings.warn(
            f"{len(aside):,} of {len(table):,} rows cannot be used; the first, row "
            f"{aside.index[0]}: {aside.iloc[0]}",
            stacklevel=3,
        )
    return table


def _usable(table: pd.DataFrame) -> pd.Index:
    """Positions of the rows that can be used."""
    return table.index[table["reason"] == ""]


def _all_rows(frame: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """A table of the usable rows, by position, with the others as empty rows, by id."""
    whole = frame.reindex(table.index)
    return whole.set_index(pd.Index(shown_ids(table), name="id"))
