"""Parquet of battles, and the swap."""

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena.battle_table import (
    LATER,
    read_battles_groups,
    read_battles_table,
    read_without_texts,
    write_battles,
)
from arena.schema import COLUMNS, TEXTS, digest
from arena.swap import swap_battles
from common.errors import Code
from common.parquet import write_groups
from tests.helpers.errors import raises

TEXT = st.text(max_size=8)
TURNS = st.lists(st.none() | TEXT, max_size=3)
ROW = st.tuples(
    *(TEXT, st.integers(0, 2**40), TURNS, TURNS, TURNS, st.integers(-1, 2)),
    *(st.none() | st.just([0.2, 0.5, 0.3]), st.floats(0, 10)),
    *(TEXT, TEXT, TEXT, TEXT, st.just("0" * 16), st.just("f" * 16)),
)


def battles_of(rows):
    values = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)) if rows else {}
    columns = {name: list(values.get(name, [])) for name in COLUMNS}
    types = dict.fromkeys(COLUMNS, "str") | {"row": "int64", "label": "int8"}
    types |= dict.fromkeys(("prompt", "response_a", "response_b", "soft_label"), "object")
    types |= {"weight": "float64"}
    battles = pd.DataFrame({name: pd.Series(columns[name], dtype=types[name]) for name in COLUMNS})
    texts = zip(battles["prompt"], battles["response_a"], battles["response_b"], strict=True)
    return battles.assign(key=pd.Series([digest(turns) for turns in texts], dtype="str"))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, max_size=4))
def test_parquet_gives_the_table_back_and_the_same_bytes(tmp_path, rows):
    battles = battles_of(rows)
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    write_battles(one, battles)
    table = read_battles_table(one)
    pd.testing.assert_frame_equal(table, battles)
    assert all(type(turns) is list for turns in table["prompt"])
    pd.testing.assert_frame_equal(read_without_texts(one), battles.drop(columns=list(TEXTS)))
    write_battles(other, table)
    assert one.read_bytes() == other.read_bytes()


def row(i):
    return (str(i), i, [f"p{i}"], ["x"], [None], 0, None, 1.0, "", "", "", "", "", "f" * 16)


@pytest.mark.parametrize(("rows", "sizes"), [(0, [0]), (2, [2]), (5, [2, 2, 1])])
def test_groups_are_the_parts_of_the_table(tmp_path, monkeypatch, rows, sizes):
    monkeypatch.setattr("arena.battle_table.GROUP", 2)
    battles = battles_of([row(i) for i in range(rows)])
    write_battles(tmp_path / "x.parquet", battles)
    groups = list(read_battles_groups(tmp_path / "x.parquet"))
    assert [len(group) for group in groups] == sizes
    pd.testing.assert_frame_equal(pd.concat(groups, ignore_index=True), battles)


def test_a_table_of_an_older_run_has_ids_of_its_file_and_equal_weights(tmp_path):
    battles = battles_of([row(0), row(1)])
    write_battles(tmp_path / "x.parquet", battles)
    older = pq.read_table(tmp_path / "x.parquet").drop_columns(sorted(LATER))
    write_groups(tmp_path / "older.parquet", [older])
    pd.testing.assert_frame_equal(
        read_battles_table(tmp_path / "older.parquet"), battles.assign(file_id=battles["id"])
    )
    pd.testing.assert_frame_equal(
        read_without_texts(tmp_path / "older.parquet"),
        battles.assign(file_id=battles["id"]).drop(columns=list(TEXTS)),
    )


def test_a_damaged_group_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("arena.battle_table.GROUP", 2)
    path = tmp_path / "x.parquet"
    write_battles(path, battles_of([row(i) for i in range(5)]))
    damaged = path.read_bytes().replace(b"p4", b"p5")
    path.write_bytes(damaged)
    groups = read_battles_groups(path)
    assert len(next(groups)) == 2
    with raises(Code.RUN_FILE_DAMAGED, match=r"x\.parquet"):
        list(groups)


def test_a_failed_write_leaves_the_old_table(tmp_path):
    path = tmp_path / "x.parquet"
    write_battles(path, battles_of([]))
    before = path.read_bytes()
    broken = pd.DataFrame({name: ["\ud800"] for name in COLUMNS}, dtype="object")
    with pytest.raises((UnicodeEncodeError, ValueError)):
        write_battles(path, broken)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


@given(st.lists(ROW, max_size=4))
def test_swap_is_an_involution(rows):
    battles = battles_of(rows)
    swapped = swap_battles(battles)
    for kept in ("id", "row", "prompt", "reason", "group"):
        assert swapped[kept].equals(battles[kept])
    assert swapped["response_a"].tolist() == battles["response_b"].tolist()
    pd.testing.assert_frame_equal(swap_battles(swapped), battles)


def test_swap_exchanges_answers_models_and_winner():
    row = ("7", 0, ["p"], ["x"], ["y"], 0, None, 1.0, "gpt", "claude", "", "", "", "f" * 16)
    battles = battles_of([row, (*row[:5], 2, *row[6:]), (*row[:5], -1, *row[6:])])
    swapped = swap_battles(battles)
    assert swapped.loc[0, ["response_a", "response_b"]].tolist() == [["y"], ["x"]]
    assert swapped.loc[0, ["model_a", "model_b"]].tolist() == ["claude", "gpt"]
    assert swapped["label"].tolist() == [1, 2, -1]
    assert swapped.loc[0, "key"] == digest([["p"], ["y"], ["x"]]) != battles.loc[0, "key"]
    assert battles.loc[0, "response_a"] == ["x"]
