"""Arena releases and pairs, from rows that a person can check by eye."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arena.reader import read_battles, rejected_rows
from arena.schema import TIE, UNKNOWN, A, B


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
