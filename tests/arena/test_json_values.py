"""JSON in every arrangement, damaged lines, damaged lists."""

import json

import pandas as pd
import pytest

from arena.files import open_source
from arena.reader import read_battles
from common.errors import Code
from tests.helpers.battle_files import check_same_as_lines, reasons, records, save
from tests.helpers.errors import raises

ROWS = records(3)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\ufeff" + json.dumps(ROWS),
        "\n\n".join(json.dumps(row, indent=4) for row in ROWS),
        "".join(map(json.dumps, ROWS)),
        "\n".join(map(str, ROWS)),
        json.dumps({"version": 1, "data": ROWS}),
        json.dumps({"data": ROWS, "meta": {}}, indent=1),
        pd.DataFrame(ROWS).to_json(),
        pd.DataFrame(ROWS).to_json(orient="index"),
        pd.DataFrame(ROWS).to_json(orient="split", indent=1),
        " " * 9000 + "\r\n" + "\r\n".join(map(json.dumps, ROWS)),
    ],
    ids=[
        *(
            "list",
            "indented list",
            "list with a mark",
            "indented objects",
            "one line of objects",
            "Python",
        ),
        *("wrapped", "wrapped, indented", "by columns", "by index", "split", "lines after blanks"),
    ],
)
def test_json_is_read_in_every_arrangement(tmp_path, text):
    check_same_as_lines(tmp_path, text, "votes.txt", ROWS)


def test_json_longer_than_what_is_read_at_once(tmp_path):
    rows = [dict(records(1)[0], id=i, prompt=[f"{i} " * 9_000, None]) for i in range(30)]
    battles = read_battles(save(tmp_path, json.dumps(rows), "x.json"), labelled=True)
    assert battles["id"].tolist() == [str(i) for i in range(30)]
    assert [len(turns[0]) for turns in battles["prompt"]] == [
        9_000 * len(f"{i} ") for i in range(30)
    ]


@pytest.mark.parametrize("cut", [20, 200, -2])
def test_a_json_list_that_is_cut_short_is_refused(tmp_path, cut):
    text = json.dumps(ROWS)[:cut]
    with raises(Code.INPUT_DAMAGED, match=r"x\.json"):
        read_battles(save(tmp_path, text, "x.json"), labelled=True)


@pytest.mark.parametrize("first", ["oops", "[1]", '{"id": 1, "prom', "3", '"text"'])
def test_a_damaged_first_line_costs_its_own_row_only(tmp_path, first):
    sound = '{"id": "u", "prompt": "p", "response_a": "a", "response_b": "b"}'
    battles = read_battles(save(tmp_path, f"{first}\n{sound}\n"), labelled=False)
    assert (list(reasons(battles)), battles["id"].tolist()) == ([0], ["0", "u"])


def test_nan_is_missing_and_a_key_that_stands_twice_sets_its_row_aside(tmp_path):
    sound = '{"id": %s, "prompt": "p", "response_a": "a", "response_b": "b", "score": NaN}'
    twice = '{"id": 1, "prompt": "p", "response_a": "a", "response_b": "b", "prompt": "q"}'
    for text in ("\n".join([sound % 0, twice, sound % 2]), f"[{sound % 0}, {twice}, {sound % 2}]"):
        path = save(tmp_path, text, "x.json")
        battles = read_battles(path, labelled=False)
        assert reasons(battles) == {1: "the key 'prompt' stands twice"}
        with open_source(path, ["score", "id"]) as stream:
            assert next(iter(stream.rows)).cells == {"id": 0, "score": None}


def test_damaged_lines_of_jsonl_keep_their_place(tmp_path):
    sound = '{"id": "%s", "prompt": "p", "response_a": "a", "response_b": "b"}'
    lines = [sound % "u", "oops", "[1]", '{"id": "v", "prompt": "p"}', sound % "w"]
    battles = read_battles(save(tmp_path, "\n".join(lines), "x.jsonl"), labelled=False)
    assert battles["id"].tolist() == ["u", "1", "2", "v", "w"]
    assert reasons(battles) == {
        1: "the line is not JSON",
        2: "the row is not a JSON object",
        3: "response_a is missing",
    }
