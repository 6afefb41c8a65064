"""Battles with their texts, part by part."""

import numpy as np
import pandas as pd
import pytest

from arena.battle_table import write_battles
from arena.battle_texts import BattleTexts
from common.errors import Code
from tests.arena.test_battle_table import battles_of, row
from tests.helpers.errors import raises


@pytest.fixture
def table():
    return battles_of([row(i) for i in range(7)])


@pytest.fixture(params=["file", "table"])
def texts(request, table, tmp_path, monkeypatch):
    """All battles of a file of groups of two, or of a table in memory."""
    monkeypatch.setattr("arena.battle_table.GROUP", 2)
    monkeypatch.setattr("arena.battle_texts.GROUP", 2)
    if request.param == "table":
        return BattleTexts(table)
    write_battles(tmp_path / "x.parquet", table)
    return BattleTexts(tmp_path / "x.parquet", np.arange(7))


@pytest.mark.parametrize("rows", [[], [3], [0, 1, 4, 6], range(7)])
def test_parts_are_the_battles_in_order_as_often_as_wanted(texts, table, rows):
    rows = np.array(rows, dtype=int)
    taken = texts.take(rows)
    for _ in range(2):
        parts = list(taken)
        assert max(map(len, parts)) <= 2
        pd.testing.assert_frame_equal(
            pd.concat(parts, ignore_index=True), table.iloc[rows].reset_index(drop=True)
        )
    assert len(taken) == len(rows)


def test_taking_twice_counts_from_what_was_taken(texts):
    some = texts.take(np.array([1, 3, 4, 6])).take(np.array([False, True, False, True]))
    assert pd.concat(some)["id"].tolist() == ["3", "6"]


def test_a_file_is_not_read_out_of_order(tmp_path, table):
    write_battles(tmp_path / "x.parquet", table)
    for rows in ([2, 1], [1, 1]):
        with pytest.raises(ValueError, match="in their order"):
            list(BattleTexts(tmp_path / "x.parquet", np.array(rows)))


def test_a_file_that_has_become_shorter_is_not_read_as_if_it_were_whole(tmp_path, table):
    path = tmp_path / "x.parquet"
    write_battles(path, table)
    texts = BattleTexts(path, np.array([0, 5]))
    write_battles(path, table.iloc[:5])
    with raises(Code.RUN_FILE_DAMAGED, "fewer rows"):
        list(texts)
