"""Probabilities and votes from files, and what is wrong with them; more in test_calibrate.py."""

import re

import numpy as np
import pandas as pd
import pytest

from arena.feature_table import Column, FeatureTable
from arena.predictions_file import from_log_odds, one_hot, read_probabilities
from arena.reader import read_battles
from arena.schema import CLASSES
from arena.votes_file import read_votes
from common.errors import Code
from tests.helpers.errors import raises

IDS = ["7", "8", "007"]
TRIPLES = np.array([[0.5, 0.25, 0.25], [0, 1, 0], [0.2, 0.2, 0.6]])


def table(ids=IDS, triples=TRIPLES):
    return pd.DataFrame(triples, columns=list(CLASSES)).assign(id=ids)


def write(path, frame):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_triples_come_in_the_order_of_the_ids(tmp_path, suffix):
    path = write(tmp_path / f"p{suffix}", table())
    probabilities = read_probabilities(str(path), ["007", "7"], logits=False)
    assert probabilities == pytest.approx(TRIPLES[[2, 0]])


def test_logits_are_for_a_teacher_only(tmp_path):
    logits = np.log(np.maximum(TRIPLES, 1e-9)) + 3
    path = write(tmp_path / "t.csv", table(triples=logits))
    assert read_probabilities(str(path), IDS, logits=True) == pytest.approx(TRIPLES, abs=1e-6)
    with raises(Code.PROBABILITY_INVALID, match=r"row 2 \(id 8\): winner_model_a .*--logits"):
        read_probabilities(str(path), IDS, logits=False)


def test_one_wrong_row_makes_no_logits_of_a_teachers_probabilities(tmp_path):
    triples = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.5, 0.1, 0.1]])
    path = str(write(tmp_path / "t.csv", table(triples=triples)))
    assert read_probabilities(path, IDS[:2], logits=True) == pytest.approx(triples[:2])
    for logits in (True, False):
        with raises(Code.PROBABILITY_INVALID, match=r"row 3 \(id 007\): .* 0\.7"):
            read_probabilities(path, IDS, logits=logits)


@pytest.mark.parametrize(
    "triples",
    [
        [[0.9, 0.3, 0.1], [0.2, 0.9, 0.4], [0.1, 0.1, 0.2]],
        [[1.5, 0.3, -0.8], [0.2, 0.4, 0.4], [0.1, 0.1, 0.2]],
        [[1.5, 0.3, 0.8], [0.2, 0.4, 0.4], [0.1, 0.1, 0.2]],
    ],
    ids=["no row sums to 1", "below 0", "above 1"],
)
def test_what_can_be_no_probabilities_are_logits(triples, tmp_path):
    path = str(write(tmp_path / "t.csv", table(triples=triples)))
    expected = np.exp(triples) / np.exp(triples).sum(axis=1, keepdims=True)
    assert read_probabilities(path, IDS, logits=True) == pytest.approx(expected)


def test_a_logits_view_is_a_teacher(tmp_path):
    logits = np.log([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    side = logits[:, 0] - logits[:, 1]
    tie = logits[:, 2] - logits[:, :2].mean(axis=1)
    columns = {"side": Column("anti"), "tie": Column("sym")}
    FeatureTable(["a", "b"], np.stack([side, tie], axis=1), columns).write(
        tmp_path / "train.parquet"
    )
    probabilities = read_probabilities(str(tmp_path / "train.parquet"), ["b", "a"], logits=True)
    assert probabilities == pytest.approx(np.exp(logits[::-1]), abs=1e-6)


@pytest.mark.parametrize(
    ("frame", "code", "place"),
    [
        (table(ids=["7", "8", "9"]), Code.BATTLES_MISSING, "id 007"),
        (table(ids=["7", "8", "8"]), Code.ID_REPEATED, "row 3 (id 8)"),
        (table().drop(columns="id"), Code.COLUMN_MISSING, "id"),
        (table().drop(columns=CLASSES[1]), Code.COLUMN_MISSING, "winner_model_b"),
        (table().assign(winner_tie=["x", "0", "1"]), Code.PROBABILITY_INVALID, "winner_tie is 'x'"),
        (table(triples=TRIPLES * 2), Code.PROBABILITY_INVALID, "sum to 2"),
        (table(triples=[[np.nan] * 3, *TRIPLES[1:]]), Code.BATTLES_MISSING, "1 of 3"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(tmp_path, frame, code, place):
    path = write(tmp_path / "p.csv", frame)
    with raises(code, match=re.escape(place)):
        read_probabilities(str(path), IDS, logits=False)


def test_a_file_that_is_not_there(tmp_path):
    with raises(Code.INPUT_MISSING):
        read_probabilities(str(tmp_path / "none.csv"), IDS, logits=False)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("column", ["votes", "winner", "label"])
def test_votes_come_in_the_order_of_the_ids(suffix, column, tmp_path):
    frame = pd.DataFrame({"id": IDS, "winner": ["tie (bothbad)", "model_a", "b"]})
    if column == "label":
        frame = pd.DataFrame({"id": IDS, "label": [2, 0, 1]})
    if column == "votes":
        frame = table(triples=np.eye(3, dtype=int)[[2, 0, 1]])
    path = str(write(tmp_path / f"v{suffix}", frame))
    assert read_votes(path, ["007", "9", "8", "7"]).labels.tolist() == [1, -1, 0, 2]


@pytest.mark.parametrize(
    ("frame", "code", "place"),
    [
        (pd.DataFrame({"id": IDS}), Code.VOTES_MISSING, "v.csv"),
        (
            table(),
            Code.ROW_DAMAGED,
            "row 1 (id 7): winner_model_a, winner_model_b, winner_tie are fractions",
        ),
        (table(triples=np.ones((3, 3), int)), Code.ROW_DAMAGED, "row 1 (id 7): two winners"),
        (table(triples=np.eye(3, dtype=int)).assign(winner="b"), Code.LABELS_DISAGREE, "row 1"),
        (
            pd.DataFrame({"id": IDS, "winner": ["a", "b", "me"]}),
            Code.ROW_DAMAGED,
            "row 3 (id 007): winner is 'me'",
        ),
    ],
)
def test_what_is_wrong_with_votes_is_told_with_its_place(frame, code, place, tmp_path):
    path = str(write(tmp_path / "v.csv", frame.assign(extra="x")))
    with raises(code, match=re.escape(place)):
        read_votes(path, IDS)


def test_broken_rows_of_other_battles_do_no_harm(tmp_path):
    path = str(write(tmp_path / "p.csv", table(triples=[[3, 3, 3], *TRIPLES[1:]])))
    assert read_probabilities(path, IDS[1:], logits=False) == pytest.approx(TRIPLES[1:])
    assert read_votes(path, ["none of them"]).labels.tolist() == [-1]


def votes_file(tmp_path, **columns):
    return str(write(tmp_path / "v.csv", pd.DataFrame(columns)))


def test_what_was_not_scored_is_counted_with_an_example(tmp_path):
    path = votes_file(tmp_path, id=["1", "2", "3", "8"], winner=["a", "", "tie", "b"])
    votes = read_votes(path, ["1", "2", "3", "4", "5"])
    assert (votes.unvoted, votes.unmatched, votes.rows) == (["2", "4", "5"], ["8"], 4)
    unvoted, unmatched = votes.notes()
    assert "3 of 5 battles" in unvoted
    assert "id 2 among" in unvoted
    assert "1 of 4 rows" in unmatched
    assert "id 8 among" in unmatched
    assert read_votes(path, ["1", "3", "8", "2"]).notes()[1:] == []


def test_ids_are_the_same_however_a_spreadsheet_or_pandas_wrote_them(tmp_path):
    path = votes_file(tmp_path, question_id=["500.0", "0501", "x"], winner=["a", "b", "tie"])
    votes = read_votes(path, ["500", "0501", "x", "501"])
    assert votes.labels.tolist() == [0, 1, 2, -1]


def test_repeated_votes_on_a_battle_are_one_where_they_agree(tmp_path):
    path = votes_file(tmp_path, id=["1", "2", "1", "1"], winner=["", "b", "a", "a"])
    assert read_votes(path, ["1", "2"]).labels.tolist() == [0, 1]
    path = votes_file(tmp_path, id=["1", "2", "1", "3"], winner=["a", "b", "tie", "b"])
    with raises(Code.ID_REPEATED, match=r"row 3 \(id 1\)"):
        read_votes(path, ["1", "2"])
    # Of other battles nobody asks.
    assert read_votes(path, ["2", "3"]).labels.tolist() == [1, 1]


def test_numbers_that_are_never_0_are_no_votes(tmp_path):
    with raises(Code.LABELS_UNCLEAR, match="label holds 1, 2,"):
        read_votes(votes_file(tmp_path, id=IDS, label=[1, 2, 1]), IDS)
    with raises(Code.LABELS_UNCLEAR, match="winner holds 0, 1, 2,"):
        read_votes(votes_file(tmp_path, id=IDS, winner=[1, 2, 0]), IDS)
    # A tie that has its own name leaves the numbers to A and B, as in a file of battles.
    named = votes_file(tmp_path, id=IDS, winner=["1", "2", "tie"])
    assert read_votes(named, IDS).labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("column", "votes"),
    [
        ("winner", ["[[A]]", "[[B]]", "[[C]]"]),
        ("winner", ["left", "right", "tie (inconsistent)"]),
        ("winner", ["x-7b", "y-8b", "both bad"]),
        ("overall_preference", [-2, 1, 0]),
    ],
)
def test_votes_have_the_names_that_they_have_in_files_of_battles(column, votes, tmp_path):
    frame = {"id": IDS, "model_a": "x-7b", "model_b": "y-8b", column: votes}
    assert read_votes(votes_file(tmp_path, **frame), IDS).labels.tolist() == [0, 1, 2]


def test_pairs_are_votes_for_what_was_chosen(tmp_path):
    frame = pd.DataFrame(
        {"id": IDS, "prompt": "Why?", "chosen": "yes", "rejected": ["a", "b", "c"]}
    )
    path = str(write(tmp_path / "pairs.jsonl", frame))
    battles = read_battles(path, labelled=False)
    chosen = [a == ["yes"] for a in battles["response_a"]]
    labels = read_votes(path, IDS).labels.tolist()
    assert labels == [0 if first else 1 for first in chosen]


def test_votes_of_pairs_follow_the_side_that_the_battle_shows_the_chosen_answer_on(tmp_path):
    texts = {"prompt": "Why?", "response_a": "yes", "response_b": ["a", "b", "c"]}
    battles = read_battles(
        str(write(tmp_path / "test.jsonl", pd.DataFrame({"id": [1, 1, 2], **texts}))),
        labelled=False,
    )
    frame = pd.DataFrame({"id": [1, 1, 2], "prompt": "Why?", "rejected": "yes"})
    path = str(write(tmp_path / "pairs.jsonl", frame.assign(chosen=["a", "b", "x"])))
    votes = read_votes(path, ["1", "1", "2"], battles["key"].tolist())
    # The third one has other texts.
    assert votes.labels.tolist() == [1, 1, -1]
    assert votes.unvoted == ["2"]


def test_an_arena_file_of_battles_is_a_file_of_votes(tmp_path):
    talk = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    columns = {"question_id": ["h0", "h1"], "winner": ["model_b", "tie (bothbad)"]}
    frame = pd.DataFrame(columns | {"conversation_a": [talk] * 2, "conversation_b": [talk] * 2})
    path = str(write(tmp_path / "v.jsonl", frame))
    assert read_votes(path, ["h1", "h0"]).labels.tolist() == [2, 1]


def test_one_hot_and_log_odds():
    assert one_hot(np.array([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    zero, large = np.zeros(1), np.array([4000.0])
    assert from_log_odds(zero, zero) == pytest.approx(np.full((1, 3), 1 / 3))
    assert from_log_odds(large, zero).tolist() == [[1, 0, 0]]
    # No trouble where a naive softmax overflows.
    assert from_log_odds(large, large / 2) == pytest.approx(np.array([[0.5, 0, 0.5]]))
