"""Arena releases and pairs, from rows that a person can check by eye."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arena.reader import open_battles, read_battles, rejected_rows
from arena.schema import TIE, UNKNOWN, A, B
from common.errors import Code
from tests.helpers.errors import raises


def said(*texts, system=None):
    roles = ["user", "assistant"] * len(texts)
    first = [] if system is None else [{"role": "system", "content": system}]
    return first + [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]


def read(tmp_path, rows, labelled=True):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_battles(str(path), labelled=labelled)


def arena(a, b, winner="model_a", **more):
    return {"conversation_a": a, "conversation_b": b, "winner": winner, **more}


def test_arena_release(tmp_path):
    rows = [
        arena(
            said("Hi", "x", "Go", "y"), said("Hi", "v", "Go", "w"), question_id="q1", model_a="m"
        ),
        arena(said("Hi", "x"), said("Hi", "y"), "tie (bothbad)", question_id="q2"),
        arena(
            said("Hi", "x", system="S"), said("Hi", "y", system="S"), "model_b", question_id="q3"
        ),
    ]
    battles = read(tmp_path, rows)
    assert rejected_rows(battles).empty
    assert battles["id"].tolist() == ["q1", "q2", "q3"]
    assert battles["label"].tolist() == [A, TIE, B]
    assert battles["prompt"].tolist() == [["Hi", "Go"], ["Hi"], ["S\n\nHi"]]
    assert battles["response_a"].tolist() == [["x", "y"], ["x"], ["x"]]
    assert battles["response_b"].tolist() == [["v", "w"], ["y"], ["y"]]
    assert battles["model_a"].tolist() == ["m", "", ""]


def parts(*texts):
    return [{"type": "text", "text": text, "image": None} for text in texts]


def test_arena_parquet_with_parts_and_integer_ids(tmp_path):
    rows = [
        arena(
            [
                {"role": "user", "content": parts("Hi")},
                {"role": "assistant", "content": parts("x", "y")},
            ],
            [
                {"role": "user", "content": parts("Hi")},
                {"role": "assistant", "content": parts("z")},
            ],
            "both_bad",
            id=12345678901234567,
        )
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    battles = read_battles(str(tmp_path / "x.parquet"), labelled=True)
    assert battles.loc[0, ["id", "prompt", "response_a", "response_b", "label"]].tolist() == [
        "12345678901234567",
        ["Hi"],
        ["x\ny"],
        ["z"],
        TIE,
    ]


def test_conversations_as_json_in_a_csv_without_ids(tmp_path):
    with (tmp_path / "x.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["conversation_a", "conversation_b"])
        out.writerows([[json.dumps(said("Hi", "x")), json.dumps(said("Hi", "y"))]] * 2)
    battles = read_battles(str(tmp_path / "x.csv"), labelled=False)
    assert battles["id"].tolist() == ["0", "1"]
    assert battles["label"].tolist() == [UNKNOWN] * 2
    assert battles["response_b"].tolist() == [["y"]] * 2


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (said("Ho", "x"), "conversation_a and conversation_b have different user turns"),
        (said("Hi"), "conversation_b does not alternate user, assistant, to a last answer"),
        ([], "conversation_b does not alternate user, assistant, to a last answer"),
        (
            said("Hi", "x")[::-1],
            "conversation_b has no prompt, neither in it nor in a column of its own",
        ),
        (5, "conversation_b is not a list of messages"),
        (None, "conversation_b is missing"),
        (["Hi"], "conversation_b holds an item without role and content"),
        (said("Hi", 5), "conversation_b has a message that is not text"),
    ],
)
def test_damaged_conversations(tmp_path, broken, reason):
    sound = arena(said("Hi", "x"), said("Hi", "y"))
    battles = read(tmp_path, [sound, arena(said("Hi", "x"), broken)])
    assert rejected_rows(battles)["reason"].tolist() == [reason]


def winners(battles):
    """The winning and the losing answer of each row."""
    pairs = zip(battles["response_a"], battles["response_b"], battles["label"], strict=True)
    return [(a, b) if label == A else (b, a) for a, b, label in pairs]


HH = "\n\nHuman: %s\n\nAssistant: %s"


@pytest.mark.parametrize(
    ("pair", "prompt", "answers"),
    [
        ({"prompt": "Hi", "chosen": "x", "rejected": "y"}, ["Hi"], (["x"], ["y"])),
        ({"chosen": said("Hi", "x"), "rejected": said("Hi", "y")}, ["Hi"], (["x"], ["y"])),
        (
            {"prompt": "Hi", "chosen": said("Hi", "x"), "rejected": said("Hi", "y")},
            ["Hi"],
            (["x"], ["y"]),
        ),
        (
            {"prompt": said("Hi"), "chosen": said("", "x")[1:], "rejected": said("", "y")[1:]},
            ["Hi"],
            (["x"], ["y"]),
        ),
        ({"chosen": HH % ("Hi", "x"), "rejected": HH % ("Hi", "y")}, ["Hi"], (["x"], ["y"])),
        (
            {
                "chosen": HH % ("Hi", "o") + HH % ("Go", "x"),
                "rejected": HH % ("Hi", "o") + HH % ("Go", "y"),
            },
            ["Hi", "Go"],
            (["o", "x"], ["o", "y"]),
        ),
        (
            {"prompt": (HH % ("Hi", "")).rstrip(), "chosen": " x", "rejected": " y"},
            ["Hi"],
            ([" x"], [" y"]),
        ),
    ],
)
def test_forms_of_pairs(tmp_path, pair, prompt, answers):
    battles = read(tmp_path, [pair])
    assert battles["prompt"].tolist() == [prompt]
    assert winners(battles) == [answers]


def test_side_of_the_chosen_answer_follows_the_content(tmp_path):
    pairs = [{"prompt": f"p{i}", "chosen": "x", "rejected": "y"} for i in range(200)]
    battles = read(tmp_path, pairs)
    # 200 fair coins: 60 to 140 heads but for one file in 10^8.
    assert 60 < (battles["label"] == A).sum() < 140
    turned = [{**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]} for pair in pairs]
    again = read(tmp_path, turned)
    # The vote decides the label and not which text is shown as A.
    assert again["response_a"].tolist() == battles["response_a"].tolist()
    assert (again["label"] == 1 - battles["label"]).all()


def test_pairs_that_cannot_be_used(tmp_path):
    rows = [
        {"prompt": "p", "chosen": "x", "rejected": "y"},
        {"prompt": "p", "chosen": "x", "rejected": "x"},
        {"prompt": "p", "chosen": None, "rejected": "y"},
        {"prompt": "p", "chosen": said("p", "x"), "rejected": said("q", "y")},
    ]
    assert rejected_rows(read(tmp_path, rows))["reason"].tolist() == [
        "no winner",
        "chosen is missing",
        "chosen and rejected have different user turns",
    ]
    # A test file needs no winner: equal answers are a battle like any other.
    assert read(tmp_path, rows, labelled=False)["reason"].tolist()[:2] == ["", ""]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"question": "Hi"}, ["Hi"]),
        ({"query": "Hi"}, ["Hi"]),
        ({"input": "Hi"}, ["Hi"]),
        ({"instruction": "Add", "input": "1 2"}, ["Add\n\n1 2"]),
        ({"instruction": "Add", "input": ""}, ["Add"]),
        ({"system": "Be brief", "question": "Hi"}, ["Be brief\n\nHi"]),
        ({"context": said("Hi")}, ["Hi"]),
        ({"context": "A text.", "question": "Hi"}, ["A text.\n\nHi"]),
        ({"messages": said("Hi", "Ho", "Go")}, ["Hi", "Go"]),
        ({"history": [["Hi", "Ho"]], "prompt": "Go"}, ["Hi", "Go"]),
        ({"conversations": [{"from": "human", "value": "Hi"}]}, ["Hi"]),
        ({"prompt": said("Hi", "Ho", "Go")}, ["Hi", "Go"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_the_prompt_under_its_public_names(tmp_path, row, prompt):
    pair = read(tmp_path, [{**row, "chosen": "x", "rejected": "y"}])
    two = read(tmp_path, [{**row, "response1": "x", "response2": "y", "winner": "a"}])
    assert pair["prompt"].tolist() == two["prompt"].tolist() == [prompt]
    before = ["Ho"] * (len(prompt) - 1)
    assert winners(pair) == winners(two) == [([*before, "x"], [*before, "y"])]


def test_pairs_without_a_prompt_are_refused_and_others_list_their_columns(tmp_path):
    with raises(Code.ALL_ROWS_DAMAGED, match="chosen has no prompt.*ask, chosen, rejected"):
        read(tmp_path, [{"ask": "Hi", "chosen": "x", "rejected": "y"}])
    with raises(Code.COLUMN_MISSING, match=r"no column prompt .*ask, response_a, response_b"):
        read(tmp_path, [{"ask": "Hi", "response_a": "x", "response_b": "y", "winner": "a"}])


def test_a_dialogue_beside_the_prompt_is_not_read_twice(tmp_path):
    row = {"prompt": "Hi", "messages": said("Hi", "x"), "chosen": said("Hi", "x")}
    battles = read(tmp_path, [{**row, "rejected": said("Hi", "y")}])
    assert battles["prompt"].tolist() == [["Hi"]]


def test_sharegpt_sides_are_single_messages(tmp_path):
    sides = {side: {"from": "gpt", "value": side} for side in ("chosen", "rejected")}
    battles = read(tmp_path, [{"conversations": [{"from": "human", "value": "Hi"}], **sides}])
    assert winners(battles) == [(["chosen"], ["rejected"])]


def test_lists_of_answers_are_pairs_that_share_a_group(tmp_path):
    row = {"id": "7", "prompt": "Hi", "chosen": ["x"], "rejected": ["u", "v", "w"]}
    other = {"id": "8", "prompt": "Go", "chosen": ["x", "y"], "rejected": "v"}
    battles = read(tmp_path, [row, other])
    assert battles["file_id"].tolist() == ["7", "7", "7", "8", "8"]
    assert battles["id"].tolist() == ["7", "7.2", "7.3", "8", "8.2"]
    assert winners(battles)[:3] == [(["x"], [text]) for text in ("u", "v", "w")]
    assert battles["group"].nunique() == 2


@pytest.mark.parametrize(
    ("turn", "turns"), [(1, 1), ("1", 1), (1.0, 1), (2, 2), (5, 2), (0, 2), (None, 2)]
)
def test_a_vote_on_the_first_turn_is_on_that_part_of_the_conversation(tmp_path, turn, turns):
    row = arena(said("Hi", "x", "Go", "y"), said("Hi", "v", "Go", "w"), turn=turn)
    battles = read(tmp_path, [row])
    assert battles["prompt"].tolist() == [["Hi", "Go"][:turns]]
    assert battles["response_b"].tolist() == [["v", "w"][:turns]]


def test_pairs_of_one_row_have_names_of_their_own_without_ids(tmp_path):
    row = {"prompt": "Hi", "chosen": ["x"], "rejected": ["u", "v"]}
    battles = read(tmp_path, [row, row | {"prompt": "Go"}])
    assert battles["id"].tolist() == ["0", "0.2", "1", "1.2"]


def test_a_system_prompt_may_be_a_message(tmp_path):
    system = {"role": "system", "content": "Be kind."}
    row = {"id": 1, "prompt": "Hi", "response_a": "x", "response_b": "y", "winner": "a"}
    battles = read(tmp_path, [row | {"system": system}, row | {"system": [system]}])
    assert battles["prompt"].tolist() == [["Be kind.\n\nHi"]] * 2


def test_what_tools_said_is_left_out_and_counted(tmp_path):
    asked = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    side = [said("Hi")[0], asked, {"role": "tool", "content": "42"}]
    rows = [arena([*side, said("", "x")[1]], [*side, said("", "y")[1]])]
    path = tmp_path / "tools.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open_battles(str(path), labelled=True) as file:
        (table,) = file.parts()
        assert file.notes() == ["tool calls in 1 rows are not read"]
    assert table["response_a"].tolist() == [["x"]]


def test_a_prompt_that_is_an_image_is_empty_and_counted(tmp_path):
    image = [{"type": "image", "text": None, "image": "https://x/y.png"}]
    sides = [
        [{"role": "user", "content": image}, {"role": "assistant", "content": parts(text)}]
        for text in "xy"
    ]
    pq.write_table(pa.Table.from_pylist([arena(*sides)]), tmp_path / "x.parquet")
    with open_battles(str(tmp_path / "x.parquet"), labelled=True) as file:
        (table,) = file.parts()
        assert file.notes() == ["images and files in 1 rows are not read"]
        assert "prompts: 1 are empty" in file.intake.lines()
    assert table["prompt"].tolist() == [[""]]


def test_own_groups_join_rows_and_weights_are_kept(tmp_path):
    pair = {"chosen": "x", "rejected": "y"}
    rows = [{"prompt": f"p{i}", **pair, "group": f"g{i // 2}", "weight": i} for i in range(6)]
    battles = read(tmp_path, rows)
    assert battles["weight"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert battles["group"].nunique() == 3
    broken = read(tmp_path, [*rows, {"prompt": "p", **pair, "weight": "much"}])
    assert rejected_rows(broken)["reason"].tolist() == ["weight is 'much', not a number from 0 on"]


def test_columns_that_are_not_read_are_named(tmp_path):
    path = tmp_path / "x.jsonl"
    row = {"prompt": "p", "chosen": "x", "rejected": "y", "score_chosen": 3, "language": "de"}
    path.write_text(json.dumps(row))
    with open_battles(str(path), labelled=True) as file:
        assert file.notes() == ["columns that are not read: score_chosen, language"]


def test_files_of_different_layouts_are_one_table(tmp_path):
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    one.write_text(json.dumps(arena(said("Hi", "x"), said("Hi", "y"), question_id="q")))
    other.write_text(json.dumps({"prompt": "Hi", "chosen": "x", "rejected": "y"}))
    with open_battles([str(one), str(other)], labelled=True) as file:
        (table,) = file.parts()
        assert file.layout == "Arena pairs"
    assert table["prompt"].tolist() == [["Hi"], ["Hi"]]
    assert table["id"].tolist() == ["q", "1"]


def test_missing_groups_and_weights_of_r_and_pandas_are_missing(tmp_path):
    pair = {"chosen": "x", "rejected": "y"}
    rows = [
        {"prompt": f"p{i}", **pair, "group": name, "weight": name}
        for i, name in enumerate(["NA", "nan", "None", "NA"])
    ]
    battles = read(tmp_path, rows)
    assert battles["group"].nunique() == 4
    assert battles["weight"].tolist() == [1.0] * 4


def test_numbers_are_answers(tmp_path):
    row = {"id": 1, "prompt": "2 + 2?", "response_a": 4, "response_b": 4.5, "winner": "a"}
    battles = read(tmp_path, [row])
    assert battles.loc[0, ["response_a", "response_b"]].tolist() == [["4"], ["4.5"]]


def test_shards_are_read_as_one_table_and_empty_ones_left_out(tmp_path, capsys):
    row = {"prompt": "p", "response_a": "x", "response_b": "y"}
    votes = [["1", "2", "tie"], ["2", "1"], []]
    for i, shard in enumerate(votes):
        lines = (json.dumps({"id": f"{i}-{k}", **row, "winner": v}) for k, v in enumerate(shard))
        (tmp_path / f"part-{i}.jsonl").write_text("\n".join(lines))
    battles = read_battles(str(tmp_path), labelled=True)
    assert battles["label"].tolist() == [0, 1, 2, 1, 0]
    assert capsys.readouterr().err == f"{tmp_path}/part-2.jsonl is empty: not read\n"
