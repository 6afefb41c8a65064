"""Battles from memory are those of a file of the same content."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pandas.testing import assert_frame_equal

from arena.in_memory import battle_of, battles_of
from arena.reader import read_battles
from arena.schema import COLUMNS
from common.errors import Code
from tests.helpers.errors import raises


def conversation(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


LMSYS = [
    {
        **{"id": 7, "model_a": "x", "model_b": "y"},
        **{"prompt": ["Hi", None], "response_a": ["a", ""], "response_b": ["b\ud83d", "c"]},
        **{"winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0},
    },
    {
        **{"id": 8, "model_a": "x", "model_b": "y"},
        **{"prompt": ["Hi"], "response_a": ["a"], "response_b": ["b", "one turn more"]},
        **{"winner_model_a": 0, "winner_model_b": 0, "winner_tie": 1},
    },
]
ARENA = [
    {
        "question_id": name,
        "conversation_a": conversation("Hi", "a"),
        "conversation_b": conversation(other, "b\ud83d"),
        "winner": "model_a",
    }
    for name, other in (("q1", "Hi"), ("q2", "another question"))
]
PAIRS = [
    {"prompt": "Which?", "chosen": "this", "rejected": "that"},
    {"prompt": "Which?", "chosen": conversation("Hi", "a"), "rejected": conversation("Hi", "b")},
    {"prompt": "Which?", "chosen": "\n\nHuman: Hi\n\nAssistant: a", "rejected": 5},
]
LAYOUTS = pytest.mark.parametrize("rows", [LMSYS, ARENA, PAIRS], ids=["LMSYS", "Arena", "pairs"])


def from_file(tmp_path, rows, labelled):
    path = tmp_path / "battles.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_battles(str(path), labelled=labelled)


@LAYOUTS
@pytest.mark.parametrize("labelled", [False, True])
def test_dicts_and_frames_give_the_table_of_their_file(tmp_path, rows, labelled):
    expected = from_file(tmp_path, rows, labelled)
    assert_frame_equal(battles_of(rows, labelled=labelled), expected)
    assert_frame_equal(battles_of(pd.DataFrame(rows), labelled=labelled), expected)


@pytest.mark.parametrize("rows", [LMSYS, ARENA], ids=["LMSYS", "Arena"])
def test_cells_may_be_json_text(tmp_path, rows):
    frame = pd.DataFrame(rows)
    as_json = frame.map(lambda cell: json.dumps(cell) if isinstance(cell, list) else cell)
    assert_frame_equal(battles_of(as_json, labelled=False), from_file(tmp_path, rows, False))


@LAYOUTS
def test_cells_may_be_numpy_arrays(tmp_path, rows):
    frame = pd.DataFrame(rows)
    arrays = frame.map(lambda cell: np.array(cell, object) if isinstance(cell, list) else cell)
    assert_frame_equal(battles_of(arrays, labelled=False), from_file(tmp_path, rows, False))


def test_damaged_rows_keep_their_places_and_say_why():
    rows = [
        {"prompt": "Hi", "response_a": "a", "response_b": float("nan")},
        {"prompt": "Hi", "response_a": "a", "response_b": "b"},
        {"prompt": "Hi", "response_a": "a"},
        {"prompt": ["Hi", float("nan")], "response_a": ("a", "b"), "response_b": ["c", 3]},
        "no dict",
        {"prompt": "", "response_a": None, "response_b": [None]},
    ]
    battles = battles_of(rows, labelled=False)
    assert battles["id"].tolist() == [str(i) for i in range(6)]
    assert battles["reason"].tolist() == [
        "response_b is missing",
        "",
        "response_b is missing",
        "response_b is not a list of texts",
        "the row is a str, not a dict",
        "response_a is missing",
    ]


def test_missing_turn_is_null():
    turns = {name: np.array(["x", np.nan], object) for name in ("response_a", "response_b")}
    battles = battles_of([{"prompt": ["x", pd.NA], **turns}], labelled=False)
    assert battles[["prompt", "response_a", "response_b"]].iloc[0].tolist() == [["x", None]] * 3


def test_no_battles_give_an_empty_table():
    for table in ([], pd.DataFrame({"prompt": []})):
        battles = battles_of(table, labelled=False)
        assert battles.shape == (0, len(COLUMNS))
    with raises(Code.COLUMN_MISSING):
        battles_of([], labelled=True)


def test_votes_are_needed_for_training():
    rows = [{"prompt": "Hi", "response_a": "a", "response_b": "b"}]
    with raises(Code.VOTES_MISSING, match="winner_model_a"):
        battles_of(rows, labelled=True)


def test_column_that_stands_twice_is_refused():
    frame = pd.DataFrame([["Hi", "a", "b", "c"]])
    frame.columns = ["prompt", "response_a", "response_b", "response_b"]
    with raises(Code.COLUMN_AMBIGUOUS, match="response_b"):
        battles_of(frame, labelled=False)


@pytest.mark.parametrize(
    "texts",
    [
        ("Hi", "a", "b"),
        (["Hi", None], ["a", ""], ["b", "c"]),
        ('["Hi"]', "lone \ud83d surrogate", ""),
        (np.array(["Hi"]), ("a",), "b"),
    ],
)
def test_battle_is_that_of_a_table_of_one_row(texts):
    # The other rows keep a text that looks like JSON from being read as JSON.
    first = dict(zip(("prompt", "response_a", "response_b"), texts, strict=True))
    other = {"prompt": "other", "response_a": "text", "response_b": "text"}
    rows = battles_of([first, *[other] * 20], labelled=False)
    assert_frame_equal(battle_of(*texts), rows.iloc[:1])


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ((["Hi", "and"], ["a", "b"], "c"), "turn counts differ"),
        (("Hi", None, "b"), "response_a is missing"),
        (("Hi", 3, "b"), "response_a is not a list"),
        (("Hi", ["a"], [b"b"]), "response_b is not a list of texts"),
        (("", "", [None]), "empty"),
    ],
)
def test_battle_that_is_none_is_refused(texts, reason):
    with raises(Code.ROW_DAMAGED, match=reason):
        battle_of(*texts)


def test_columns_match_as_those_of_a_file_do():
    row = {"Prompt": "p", "Response A": "a", "response-b": "b", "Winner": "a"}
    for table in (pd.DataFrame([row]), [row]):
        battles = battles_of(table, labelled=True)
        assert battles.loc[0, ["response_a", "response_b"]].tolist() == [["a"], ["b"]]
        assert battles.loc[0, "label"] == 0


def test_the_chosen_answers_of_pairs_may_be_shown_first():
    pairs = [{"prompt": f"p{i}", "chosen": f"x{i}", "rejected": "y"} for i in range(20)]
    by_hash = battles_of(pairs, labelled=False)
    assert set(by_hash["label"]) == {0, 1}
    first = battles_of(pairs, labelled=False, chosen_first=True)
    assert first["response_a"].tolist() == [[f"x{i}"] for i in range(20)]
    assert first["label"].tolist() == [0] * 20
    assert first["id"].tolist() == by_hash["id"].tolist()
    assert first["group"].tolist() == by_hash["group"].tolist()


@pytest.mark.parametrize("table", [None, "x.csv", {"prompt": ["p"]}, np.zeros((2, 3)), 7])
def test_what_is_no_table_of_battles_is_named(table):
    with raises(Code.USAGE, match=type(table).__name__):
        battles_of(table, labelled=False)


def test_a_table_of_pyarrow_is_one_of_battles():
    rows = [{"prompt": "p", "response_a": "x", "response_b": "y"}] * 2
    table = battles_of(pa.Table.from_pylist(rows), labelled=False)
    assert table["response_a"].tolist() == [["x"], ["x"]]
