"""What becomes of the rows of a file, sound and damaged."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena.battle_rows import LONGEST
from arena.reader import read_battles
from arena.schema import COLUMNS, digest
from common.errors import Code
from tests.helpers.battle_files import NAMES, VOTES, WITH_FILES, as_csv, cells, reasons, save
from tests.helpers.errors import raises

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
TURN = st.none() | ANY_TEXT


def test_lmsys_row_is_read_as_it_stands(tmp_path):
    rows = [
        ["7", '["Hi", null]', '["a", ""]', '["b", null]', "0", "0", "1"],
        cells(8, vote=(0, 1, 0)),
    ]
    battles = read_battles(save(tmp_path, as_csv(rows)), labelled=True)
    assert list(battles.columns) == list(COLUMNS)
    assert battles.loc[0, ["id", "row", "label", "reason", "model_a"]].tolist() == [
        "7",
        0,
        2,
        "",
        "",
    ]
    assert battles.loc[0, "prompt"] == ["Hi", None]
    assert battles.loc[0, "response_a"] == ["a", ""]
    assert battles.loc[0, "response_b"] == ["b", None]
    assert battles.loc[0, "key"] == digest([["Hi", None], ["a", ""], ["b", None]])
    assert battles["label"].dtype == np.int8
    assert battles["row"].dtype == np.int64
    assert battles.loc[1, "label"] == 1


@WITH_FILES
@given(
    st.lists(
        st.integers(1, 4).flatmap(
            lambda n: st.tuples(*[st.lists(TURN, min_size=n, max_size=n)] * 3)
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_text_comes_back_from_an_lmsys_csv(tmp_path, battles):
    rows = [[i, "", "", *map(json.dumps, texts)] for i, texts in enumerate(battles)]
    header = ["id", "model_a", "model_b", "prompt", "response_a", "response_b"]
    table = read_battles(save(tmp_path, as_csv(rows, header)), labelled=False)
    for texts, row in zip(battles, table.itertuples(), strict=True):
        if not any(turn for turns in texts for turn in turns):
            assert row.reason == "prompt and answers are empty"
            continue
        # JSON joins two escapes that happen to form one character; a lone one becomes U+FFFD.
        expected = [
            [
                turn
                if turn is None
                else turn.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
                for turn in turns
            ]
            for turns in texts
        ]
        assert row.reason == ""
        assert [row.prompt, row.response_a, row.response_b] == expected


def test_lone_surrogate_becomes_the_replacement_character(tmp_path):
    row = ["1", '["\\ud83d\\ude00 \\ud83d!"]', '["a"]', '["b"]', "1", "0", "0"]
    battles = read_battles(save(tmp_path, as_csv([row])), labelled=True)
    assert battles.loc[0, "prompt"] == ["\U0001f600 \ufffd!"]


@pytest.mark.parametrize(
    ("told", "label"),
    [
        *[("a", 0), ("B", 1), ("tie", 2), ("Model_A", 0), ("model_b", 1)],
        *[("tie (bothbad)", 2), ("both_bad", 2), ("bothbad", 2), (" Tie (both bad) ", 2)],
    ],
)
@pytest.mark.parametrize("column", ["winner", "winner_model"])
def test_one_winner_column(tmp_path, column, told, label):
    content = as_csv([["1", "Why?", "so", "thus", told]], [*NAMES, column])
    assert read_battles(save(tmp_path, content), labelled=True)["label"].tolist() == [label]


@pytest.mark.parametrize("told", ["a1", "tie3", "aé", "model c"])
def test_no_winner_is_guessed_from_some_of_the_letters(tmp_path, told):
    rows = [["1", "Why?", "so", "thus", told], ["2", "How?", "so", "thus", "a"]]
    battles = read_battles(save(tmp_path, as_csv(rows, [*NAMES, "winner"])), labelled=True)
    assert reasons(battles) == {0: f"winner is {told!r}, not a, b or tie"}


def test_plain_text_cells_are_literal_turns(tmp_path):
    rows = [
        ["1", "Why?", "[1] so", "no", "a"],
        ["2", "[x]", '{"a": 1}', "[]", "b"],
        ["3", "null", "", "", "tie"],
        ["4", "How?", '["a", "list"]', "thus", "tie"],
        *([f"{i}", f"{i}?", "so", "no", "a"] for i in range(5, 30)),
    ]
    battles = read_battles(save(tmp_path, as_csv(rows, [*NAMES, "winner_model"])), labelled=True)
    assert reasons(battles) == {}
    for column, name in enumerate(NAMES):
        assert battles[name].tolist() == [row[0] if name == "id" else [row[column]] for row in rows]


def test_each_column_is_judged_apart(tmp_path):
    rows = [["1", "Why?", '["so"]', '["no"]', "a"], ["2", "How?", "[thus", '["no"]', "a"]]
    battles = read_battles(save(tmp_path, as_csv(rows, [*NAMES, "winner"])), labelled=True)
    assert battles["prompt"].tolist() == [["Why?"], []]
    assert reasons(battles) == {1: "response_a is not JSON"}


DAMAGE = {
    "turn counts differ: prompt 2, response_a 1, response_b 1": lambda r: [
        r[0],
        '["p", "q"]',
        *r[2:],
    ],
    "prompt is not JSON": lambda r: [r[0], '["p"', *r[2:]],
    "response_a is not a list": lambda r: [*r[:2], "{'a', 'b'}", *r[3:]],
    "response_b is not a list of texts": lambda r: [*r[:3], "[1]", *r[4:]],
    "response_b has no turn": lambda r: [*r[:3], "[]", *r[4:]],
    "response_a is missing": lambda r: [*r[:2], "", *r[3:]],
    "prompt and answers are empty": lambda r: [r[0], '[""]', "[null]", '[""]', *r[4:]],
    "id is too long, a formula or not one line": lambda r: ["=A(1)", *r[1:]],
    "6 cells where the header has 7": lambda r: r[:6],
    "8 cells where the header has 7": lambda r: [*r, "0"],
    "no winner in winner_model_a, winner_model_b, winner_tie": lambda r: [*r[:4], "0", "0", "0"],
    "two winners: winner_model_a, winner_tie": lambda r: [*r[:4], "1", "0", "1"],
    "winner_model_b is '2', not 0 or 1": lambda r: [*r[:4], "1", "2", "0"],
    "winner_tie is '', not 0 or 1": lambda r: [*r[:4], "1", "0", ""],
    "response_a has 2,000,005 characters, more than 2,000,000": lambda r: [
        *r[:2],
        json.dumps(["x" * (LONGEST + 1)]),
        *r[3:],
    ],
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_a_damaged_row_is_set_aside_with_its_reason_and_no_other(tmp_path, reason):
    rows = [cells(i) for i in range(4)]
    rows[2] = DAMAGE[reason](rows[2])
    battles = read_battles(save(tmp_path, as_csv(rows)), labelled=True)
    assert battles["row"].tolist() == [0, 1, 2, 3]
    assert reasons(battles) == {2: reason}
    assert battles["label"].tolist() == [0, 0, -1, 0]
    assert battles.loc[2, "prompt"] == []
    assert battles.loc[2, "id"] == "2"


def test_a_vote_that_cannot_be_read_does_not_spoil_a_test_row(tmp_path):
    votes = [(1, 0, 0), (1, 1, 0), (0, 0, 0), ("?", 0, 0)]
    content = as_csv([cells(i, vote=vote) for i, vote in enumerate(votes)])
    battles = read_battles(save(tmp_path, content), labelled=False)
    assert reasons(battles) == {}
    assert battles["label"].tolist() == [0, -1, -1, -1]


@WITH_FILES
@given(st.data())
def test_no_row_is_lost_under_random_damage(tmp_path, data):
    lines = as_csv([cells(i) for i in range(8)]).encode().splitlines()
    hit = data.draw(st.integers(1, 8))
    line = bytearray(lines[hit])
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(line) - 1))
        # Anything but line ends: those make rows, or hide them.
        line[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte not in b"\r\n"))
    lines[hit] = bytes(line)
    battles = read_battles(save(tmp_path, b"\n".join(lines)), labelled=True)
    assert len(battles) == 8
    others = battles[battles["row"] != hit - 1]
    assert set(others["reason"]) == {""}
    assert others["file_id"].tolist() == [str(i) for i in range(8) if i != hit - 1]


def test_training_files_are_refused_without_votes(tmp_path):
    path = save(tmp_path, as_csv([cells(1)[:6]], [*NAMES, *VOTES[:2]]))
    with raises(Code.VOTES_MISSING, match="winner_tie"):
        read_battles(path, labelled=True)
    with raises(Code.ALL_ROWS_DAMAGED, match="two winners"):
        read_battles(save(tmp_path, as_csv([cells(1, vote=(1, 1, 0))])), labelled=True)
