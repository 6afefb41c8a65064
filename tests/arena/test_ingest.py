"""A file on its way to the canonical table, in parts."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena.battle_rows import ReadOptions
from arena.battle_table import read_battles_table, texts_hash, write_battles
from arena.ingest import ingest_file
from arena.reader import open_battles, read_battles, rejected_rows, valid_rows
from common.errors import Code
from tests.helpers.battle_files import WITH_FILES, as_csv, cells, save
from tests.helpers.errors import raises

LONG = "an answer of more than twenty characters"

ROWS = st.lists(
    st.builds(
        lambda i, prompt, a, vote: [i, f'["{prompt}"]', f'["{a}"]', '["no"]', *vote],
        st.sampled_from(["1", "2", "3", "", "=A(1)", "x"]),
        st.sampled_from(["p", "q", "r"]),
        st.sampled_from(["yes", LONG, '"', "\udcff"]),
        st.sampled_from([(1, 0, 0), (0, 0, 1), (1, 1, 0)]),
    ),
    min_size=1,
    max_size=7,
)


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch):
    groups_of(2, monkeypatch)


def groups_of(rows, monkeypatch):
    for module in ("arena.reader", "arena.battle_table", "common.parquet"):
        monkeypatch.setattr(f"{module}.GROUP", rows)


def ingested(source, path, labelled=False, options=None):
    with open_battles(source, labelled=labelled, options=options) as file:
        return ingest_file(file, path)


@WITH_FILES
@given(ROWS)
def test_a_file_ingested_by_parts_gives_the_table_of_the_whole_file(tmp_path, rows):
    rows += [cells(i) for i in range(10, 18)]
    source = save(tmp_path, as_csv(rows).encode("utf-8", "surrogateescape"))
    by_parts, whole = tmp_path / "parts.parquet", tmp_path / "whole.parquet"
    options = ReadOptions(allow_rejects=1)
    table = read_battles(source, labelled=False, options=options)
    summary = ingested(source, by_parts, options=options)
    write_battles(whole, table)
    assert by_parts.read_bytes() == whole.read_bytes()
    assert summary.rows == len(rows)
    assert summary.texts == texts_hash(valid_rows(table))
    assert summary.rejected.to_dict("records") == rejected_rows(table).to_dict("records")


def test_the_content_is_that_of_ids_texts_votes_and_damage(tmp_path):
    rows = [cells(i) for i in range(5)]
    changed = [
        [*rows[:4], cells(9)],
        [*rows[:4], cells(4, a="maybe")],
        [*rows[:4], cells(4, vote=(0, 1, 0))],
        [*rows[:4], cells(4, vote=(1, 1, 0))],
        [rows[1], rows[0], *rows[2:]],
        rows[:4],
    ]
    files = [save(tmp_path, as_csv(part), f"{i}.csv") for i, part in enumerate([rows, *changed])]
    contents = [ingested(file, tmp_path / "x.parquet", labelled=True).content for file in files]
    assert len(set(contents)) == len(files)
    assert contents[0] == ingested(files[0], tmp_path / "y.parquet", labelled=True).content


def test_ids_and_groups_are_seen_across_parts(tmp_path):
    rows = [cells(i) for i in range(9)]
    rows += [cells(i) for i in range(9, 20)]
    rows[8][0], rows[7][1] = "0", '["Question 1"]'
    summary = ingested(save(tmp_path, as_csv(rows)), tmp_path / "x.parquet")
    table = read_battles_table(tmp_path / "x.parquet")
    assert summary.rejected.empty
    assert table.loc[[0, 8], "id"].tolist() == ["0", "0#2"]
    assert table.loc[0, "group"] == table.loc[8, "group"]
    assert table.loc[1, "group"] == table.loc[7, "group"]
    assert table["group"].nunique() == 18


def test_a_file_of_damaged_rows_leaves_nothing(tmp_path):
    source = save(tmp_path, as_csv([cells(i, vote=(1, 1, 0)) for i in range(5)]))
    with raises(Code.ALL_ROWS_DAMAGED, match="two winners"):
        ingested(source, tmp_path / "new" / "x.parquet", labelled=True)
    assert list((tmp_path / "new").iterdir()) == []


def test_lists_are_told_by_all_rows_not_by_those_of_a_part(tmp_path):
    # Seven of nine cells are lists, so what begins as one in the first part is damaged.
    rows = [cells(i) for i in range(9)]
    rows[0][2] = rows[1][2] = "[yes"
    ingested(save(tmp_path, as_csv(rows)), tmp_path / "x.parquet")
    table = read_battles_table(tmp_path / "x.parquet")
    assert table["reason"].tolist() == ["response_a is not JSON"] * 2 + [""] * 7


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet", "csv.gz"])
def test_memory_does_not_hold_the_file(tmp_path, monkeypatch, extension):
    groups_of(50, monkeypatch)
    table = read_battles(save(tmp_path, as_csv([cells(i) for i in range(2_000)])), labelled=False)
    texts = [[str(i) + "x" * 10_000] for i in range(len(table))]
    table = table.assign(response_a=texts)[["id", "prompt", "response_a", "response_b"]]
    path = tmp_path / f"large.{extension}"
    if extension == "parquet":
        table.to_parquet(path, row_group_size=100)
    elif extension == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        as_text = table.assign(response_a=[text for (text,) in texts])
        as_text.assign(prompt="p", response_b="b").to_csv(path, index=False)
    tracemalloc.start()
    try:
        summary = ingested(str(path), tmp_path / "x.parquet")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert summary.rows == 2_000
    assert peak < 8e6 < 2_000 * 10_000
