"""Cells that are lists, and texts that only look like one."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena.cells import Damaged
from arena.reader import open_battles, read_battles
from arena.structures import structure
from tests.helpers.battle_files import NAMES, as_csv, save

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": TEXT}), min_size=1)


@given(st.lists(st.none() | TEXT, min_size=1) | MESSAGES)
def test_a_list_comes_back_from_json_and_from_python(items):
    assert structure(json.dumps(items)) == items
    assert structure(repr(items)) == items


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_a_list_comes_back_from_numpy(items):
    array = np.empty(len(items), object)
    array[:] = items
    assert structure(str(array)) == items
    assert structure(repr([array])) == [items]


@pytest.mark.parametrize("text", ["Hi [1]", "", "null", '"[]"', "{'a': 1}", '{"a": [1]}'])
def test_texts_that_begin_as_no_list_are_none(text):
    assert structure(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "[1] so",
            "['a",
            "[a, b]",
            "[1, 2]",
            "[lambda: 0]",
            "[__import__('os')]",
            "['a'] + ['b']",
        ),
        *("[" * 100_000, "[" + "-" * 100_000 + "1]", "{'a', 'b'}", "['\\"),
    ],
)
def test_what_begins_as_a_list_and_is_none_is_damaged(text):
    assert isinstance(structure(text), Damaged | None)
    assert not isinstance(structure(text), list | dict)


def test_a_megabyte_of_quotes_takes_no_time():
    start = time.monotonic()
    assert isinstance(structure("['" + "\\'" * 500_000), Damaged)
    assert time.monotonic() - start < 5


def battles(tmp_path, rows, labelled=False):
    content = as_csv([[i, *row] for i, row in enumerate(rows)], NAMES)
    return read_battles(save(tmp_path, content), labelled=labelled)


def test_python_lists_are_those_of_json(tmp_path):
    texts = [(["p", "it's"], ["a", 'say "b"'], ["c\n", None])] * 3
    as_json = battles(tmp_path, [[json.dumps(cell) for cell in row] for row in texts])
    as_python = battles(tmp_path, [[repr(cell) for cell in row] for row in texts])
    assert as_python["prompt"].tolist() == [["p", "it's"]] * 3
    assert as_python["key"].tolist() == as_json["key"].tolist()


def test_cells_of_both_kinds_are_read_one_by_one_and_told(tmp_path):
    plain = ["p", "a", "b"]
    rows = [['["p"]', '["a"]', "['b']"], plain, ["p", "a", '["b", "c"]'], plain, plain]
    path = save(tmp_path, as_csv([[i, *row] for i, row in enumerate(rows)], NAMES))
    with open_battles(path, labelled=False) as file:
        (table,) = file.parts()
        notes = file.notes()
    assert table["prompt"].tolist() == [["p"]] * 5
    # Two turns beside one: this text only looks like a list.
    assert table["response_b"].tolist()[:3] == [["b"], ["b"], ['["b", "c"]']]
    assert any(note.startswith("prompt: 1 cells are lists of turns and 4 plain") for note in notes)


def test_a_single_answer_that_is_a_list_stays_text(tmp_path):
    rows = [["Name two colours as JSON", '["red", "blue"]', "red, blue"]]
    rows += [[f"p{i}", "a", "b"] for i in range(30)]
    assert battles(tmp_path, rows)["response_a"].tolist()[0] == ['["red", "blue"]']


def test_a_row_of_lists_among_plain_texts_is_read_as_lists(tmp_path):
    rows = [['["p", "q"]', '["a", "b"]', '["c", "d"]']] + [[f"p{i}", "a", "b"] for i in range(40)]
    table = battles(tmp_path, rows)
    assert table.loc[0, ["prompt", "response_a"]].tolist() == [["p", "q"], ["a", "b"]]


def test_an_empty_cell_among_lists_is_missing_and_among_texts_empty(tmp_path):
    lists = battles(tmp_path, [['["p"]', '["a"]', '["b"]'], ['["p"]', "", '["b"]']])
    assert lists["reason"].tolist() == ["", "response_a is missing"]
    texts = battles(tmp_path, [["p", "a", "b"], ["p", "", "b"]])
    assert texts["reason"].tolist() == ["", ""]


@pytest.mark.parametrize(
    "written",
    ["('Why?', 'it\\'s')", '"[\\"Why?\\", \\"it\'s\\"]"', "list(['Why?', \"it's\"])"],
)
def test_lists_in_unusual_writing(written):
    inside = structure(f"[{written}]") if written.startswith("list") else structure(written)
    assert inside in (["Why?", "it's"], [["Why?", "it's"]])


def test_what_is_not_a_number_in_a_list_is_a_missing_turn():
    assert structure('["a", NaN]') == ["a", None]


@pytest.mark.parametrize("text", ['("Hello")', '("a", b)', '"[1]" is it?', '"[\\"a"'])
def test_quotes_and_brackets_at_the_start_of_a_text_are_text(text):
    assert structure(text) is None


def test_a_column_of_lists_that_cannot_be_read_is_no_column_of_texts(tmp_path):
    prompt = "[{'role': 'user', 'content': 'Hi', 'at': datetime.date(2024, 1, 1)}]"
    rows = [[prompt, f"a {i}", "b"] for i in range(4)]
    assert set(battles(tmp_path, rows)["reason"]) == {"prompt is not JSON"}
    # One such text among others is a text.
    assert battles(tmp_path, [rows[0], *[["p", "a", "b"]] * 9])["reason"].tolist() == [""] * 10
