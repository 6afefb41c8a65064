"""Soft labels and teachers from files, and what is wrong with them."""

import numpy as np
import pandas as pd
import pytest

from arena.battle import CLASSES
from arena.errors import UserError
from arena.views import Column, View
from embeddings.targets import from_log_odds, one_hot, read_probabilities

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
    found = read_probabilities(path, ["007", "7"], logits=False)
    assert found.dtype == np.float32
    assert found == pytest.approx(TRIPLES[[2, 0]])


def test_logits_are_for_a_teacher_only(tmp_path):
    logits = np.log(np.maximum(TRIPLES, 1e-9)) + 3
    path = write(tmp_path / "t.csv", table(triples=logits))
    assert read_probabilities(path, IDS, logits=True) == pytest.approx(TRIPLES, abs=1e-6)
    with pytest.raises(UserError, match="id 7 is no probabilities"):
        read_probabilities(path, IDS, logits=False)


def test_a_logits_view_is_a_teacher(tmp_path):
    logits = np.log([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    side = logits[:, 0] - logits[:, 1]
    tie = logits[:, 2] - logits[:, :2].mean(axis=1)
    columns = {"side": Column("anti"), "tie": Column("sym")}
    View(["a", "b"], np.stack([side, tie], axis=1), columns).write(tmp_path / "train.parquet")
    found = read_probabilities(tmp_path / "train.parquet", ["b", "a"], logits=True)
    assert found == pytest.approx(np.exp(logits[::-1]), abs=1e-6)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (table(ids=["7", "8", "9"]), "lacks 1 of 3 battles, id 007"),
        (table(ids=["7", "8", "8"]), "has an id twice: 8"),
        (table().drop(columns="id"), "must have the columns id"),
        (table().drop(columns=CLASSES[1]), "must have the columns id"),
        (table().assign(winner_tie=["x", "0", "1"]), "not a number"),
        (table(triples=TRIPLES * 2), "sum to 1"),
        (table(triples=[[np.nan] * 3, *TRIPLES[1:]]), "lacks 1 of 3"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, frame, complaint):
    path = write(tmp_path / "p.csv", frame)
    with pytest.raises(UserError) as error:
        read_probabilities(path, IDS, logits=False)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_probabilities(tmp_path / "none.csv", IDS, logits=False)


def test_one_hot_and_log_odds():
    assert one_hot(np.array([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    zero, large = np.zeros(1), np.array([4000.0])
    assert from_log_odds(zero, zero) == pytest.approx(np.full((1, 3), 1 / 3))
    assert from_log_odds(large, zero).tolist() == [[1, 0, 0]]
    # No trouble where a naive softmax overflows.
    assert from_log_odds(large, large / 2) == pytest.approx(np.array([[0.5, 0, 0.5]]))
