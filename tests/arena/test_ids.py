"""Ids of rows: what the file says, and names that no two rows share."""

import pytest

from arena.ids import id_text, is_plain
from arena.reader import read_battles
from arena.sources import expand
from tests.helpers.battle_files import as_csv, cells, save


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        *((None, ""), ("", ""), (" ", ""), (float("nan"), "")),
        *((7, "7"), (7.0, "7"), ("7.0", "7"), ("7.50", "7.50"), (0.5, "0.5"), (2**70, str(2**70))),
        *(("007", "007"), ("6.56E+08", "6.56E+08"), ("v1.0", "v1.0"), (True, "True")),
    ],
)
def test_an_id_is_its_text_and_a_whole_float_a_whole_number(cell, text):
    assert id_text(cell) == text


def test_an_id_of_two_lines_or_a_formula_is_not_plain():
    assert is_plain("a-1")
    assert is_plain("-5")
    assert not is_plain("a\nb")
    assert not is_plain("=SUM(1)")
    assert not is_plain("x" * 201)


def read(tmp_path, ids, labelled=False):
    rows = [[name, *cells(i)[1:]] for i, name in enumerate(ids)]
    return read_battles(save(tmp_path, as_csv(rows)), labelled=labelled)


@pytest.mark.parametrize("labelled", [True, False])
def test_every_row_is_kept_in_its_order_under_a_name_of_its_own(tmp_path, labelled):
    ids = ["0", "1", "", "2", "1", "1", "", "1#2", "500.0"]
    battles = read(tmp_path, ids, labelled)
    assert battles["file_id"].tolist() == [*ids[:8], "500"]
    assert battles["id"].tolist() == ["0", "1", "row-2", "2", "1#2'", "1#3", "6", "1#2", "500"]
    assert battles["reason"].tolist() == [""] * 9


def test_rows_of_one_id_share_a_group(tmp_path):
    battles = read(tmp_path, ["a", "b", "a", *map(str, range(20))])
    groups = battles["group"].tolist()
    assert groups[0] == groups[2]
    assert len(set(groups)) == 22


def test_ids_that_join_unrelated_rows_join_none(tmp_path):
    assert read(tmp_path, ["a"] * 30)["group"].nunique() == 30


def test_ids_go_on_through_several_files(tmp_path):
    paths = [
        save(tmp_path, as_csv([cells(i) for i in part]), f"{part.start}.csv")
        for part in (range(3), range(1, 4))
    ]
    battles = read_battles(paths, labelled=True)
    assert battles["id"].tolist() == ["0", "1", "2", "1#2", "2#2", "3"]
    assert battles["row"].tolist() == list(range(6))
    assert expand(paths) == paths
