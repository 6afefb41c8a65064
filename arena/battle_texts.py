"""Battles with their texts, of which only a part is held at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from arena.battle_table import read_battles_groups
from arena.schema import Turns
from common.parquet import GROUP, damaged


class BattleTexts:
    """n battles of a file or of a table in memory, which may be iterated over again and again.

    Iteration yields successive parts of the canonical table, of ``common.parquet.GROUP`` rows at
    most. A file is read anew each time, so whoever keeps no part holds no text.
    """

    def __init__(self, source: Path | pd.DataFrame, rows: np.ndarray | None = None) -> None:
        """Nothing is read yet.

        Args:
            source: a file that ``arena.battle_table.write_battles`` wrote, or the canonical table.
            rows: positions of the battles in it, int (n,); those of a file must ascend. ``None``:
                all rows of a table.
        """
        if rows is None:
            assert isinstance(source, pd.DataFrame)
            rows = np.arange(len(source))
        self._source, self._rows = source, rows

    def __len__(self) -> int:
        """Number of battles."""
        return len(self._rows)

    def take(self, rows: np.ndarray) -> BattleTexts:
        """The battles at positions ``rows`` (integer array or boolean mask)."""
        return BattleTexts(self._source, self._rows[rows])

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Yield the parts, at least one.

        Raises:
            UserError: the file is damaged, or has become shorter.
            ValueError: the rows of a file do not ascend.
        """
        if isinstance(self._source, pd.DataFrame):
            for start in range(0, max(len(self), 1), GROUP):
                yield self._source.iloc[self._rows[start : start + GROUP]]
            return
        if (np.diff(self._rows) <= 0).any():
            raise ValueError("battles of a file are read in their order, each once")
        first = 0
        for group in read_battles_groups(self._source):
            start, end = np.searchsorted(self._rows, [first, first + len(group)])
            yield group.iloc[self._rows[start:end] - first]
            first += len(group)
        if len(self) and self._rows[-1] >= first:
            raise damaged(self._source, ValueError("it has fewer rows than before"))

    @cached_property
    def lengths(self) -> np.ndarray:
        """Characters of answers A and B, see :func:`answer_lengths`; float64 (n, 2)."""
        return answer_lengths(self)


def _characters(turns: Turns) -> int:
    """Length of a speaker's turns in characters."""
    return sum(len(turn or "") for turn in turns)


def answer_lengths(battles: Iterable[pd.DataFrame]) -> np.ndarray:
    """Characters of answers A and B, float64 (n, 2).

    Args:
        battles: successive parts of the canonical table, n rows in all.
    """
    pairs = (zip(part["response_a"], part["response_b"], strict=True) for part in battles)
    lengths = [(_characters(a), _characters(b)) for part in pairs for a, b in part]
    return np.array(lengths, dtype=np.float64).reshape(-1, 2)
