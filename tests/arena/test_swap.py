"""A battle with A and B exchanged."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from arena.schema import COLUMNS, TIE, UNKNOWN, A, B, digest
from arena.swap import swap_battles

SOFT = {B: [0.2, 0.5, 0.3]}
"""Soft labels of some rows, by their label."""


def table(rows, index=None):
    """Canonical battles of (prompt, response_a, response_b, label), as ``read_battles`` makes."""
    df = pd.DataFrame(
        {
            "id": [f"id{i}" for i in range(len(rows))],
            "row": np.arange(len(rows), dtype=np.int64),
            "prompt": [row[0] for row in rows],
            "response_a": [row[1] for row in rows],
            "response_b": [row[2] for row in rows],
            "label": np.array([row[3] for row in rows], dtype=np.int8),
            "soft_label": pd.Series([SOFT.get(row[3]) for row in rows], dtype=object).to_numpy(),
            "weight": np.full(len(rows), 2.5),
            "model_a": [f"first{i}" for i in range(len(rows))],
            "model_b": [f"second{i}" for i in range(len(rows))],
            "file_id": [f"file{i}" for i in range(len(rows))],
            "reason": ["no winner" if row[3] == UNKNOWN else "" for row in rows],
            "key": [digest(row[:3]) for row in rows],
            "group": [f"{i:016x}" for i in range(len(rows))],
        },
        index=index,
    )
    names = ["id", "model_a", "model_b", "file_id", "reason", "key", "group"]
    return df.astype(dict.fromkeys(names, "str"))[list(COLUMNS)]


ROWS = [
    (["p"], ["a"], ["b"], A),
    (["p", None], ["a", None], ["b", ""], B),
    (["q"], ["same"], ["same"], TIE),
    (["r"], [""], ["a"], UNKNOWN),
]


def test_answers_models_and_labels_change_places():
    swapped = swap_battles(table(ROWS, index=[3, 9, 4, 1]))
    assert swapped["response_a"].tolist() == [["b"], ["b", ""], ["same"], ["a"]]
    assert swapped["response_b"].tolist() == [["a"], ["a", None], ["same"], [""]]
    assert swapped["model_a"].tolist() == ["second0", "second1", "second2", "second3"]
    assert swapped["model_b"].tolist() == ["first0", "first1", "first2", "first3"]
    assert swapped["label"].tolist() == [B, A, TIE, UNKNOWN]
    assert swapped["soft_label"].tolist() == [None, [0.5, 0.2, 0.3], None, None]


def test_what_tells_the_battle_stays():
    battles = table(ROWS, index=[3, 9, 4, 1])
    swapped = swap_battles(battles)
    stay = ["id", "row", "prompt", "weight", "file_id", "reason", "group"]
    assert_frame_equal(swapped[stay], battles[stay])
    assert swapped.dtypes.equals(battles.dtypes)
    assert swapped.columns.tolist() == list(COLUMNS)


def test_the_key_is_that_of_the_new_order():
    battles = table(ROWS, index=[3, 9, 4, 1])
    swapped = swap_battles(battles)
    assert swapped["key"].tolist() == [digest([p, b, a]) for p, a, b, _ in ROWS]
    # The third row has two equal answers: exchanged, it is the same text.
    assert (swapped["key"] != battles["key"]).tolist() == [True, True, False, True]


def test_the_table_that_was_given_stays_as_it_was():
    battles = table(ROWS)
    before = battles.copy(deep=True)
    swap_battles(battles)
    assert_frame_equal(battles, before)


TURNS = st.lists(st.none() | st.text(st.characters(exclude_categories=()), max_size=4), max_size=3)
LABELS = st.sampled_from([A, B, TIE, UNKNOWN])


@given(st.lists(st.tuples(TURNS, TURNS, TURNS, LABELS), max_size=4))
def test_swapping_twice_is_the_identity(rows):
    battles = table(rows)
    battles["soft_label"] = pd.Series([SOFT[B]] * len(rows), dtype=object)
    assert_frame_equal(swap_battles(swap_battles(battles)), battles)
