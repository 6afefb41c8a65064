"""Groups and folds."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena.folds import assign_groups, fold_of, normalise

LONG = "an answer of more than twenty characters"


def table(*rows):
    columns = ["prompt", "response_a", "response_b"]
    return pd.DataFrame([[[text] for text in row] for row in rows], columns=columns)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["What is it?"], ["what  is\tit"]),
        (["  “Ｗｈａｔ” is it?!"], ["“what” is it"]),
        (["straße ﬁx."], ["STRASSE FIX"]),
        (["Hi", None, "there"], ["hi there"]),
    ],
)
def test_prompts_that_are_the_same(one, other):
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"), [("3 + 4", "3 - 4"), ("?", "!"), ("ab", "a b"), ("", "?")]
)
def test_prompts_that_differ(one, other):
    assert normalise([one]) != normalise([other])


def test_rows_are_joined_by_prompt_by_answers_and_by_chains():
    groups = assign_groups(
        table(
            ("one", "a", "b"),
            ("One?", "c", "d"),
            ("two", LONG, "x"),
            ("three", "x", LONG),
            ("THREE", "e", "f"),
            ("four", "g", "h"),
        )
    ).tolist()
    assert groups[0] == groups[1]
    assert groups[2] == groups[3] == groups[4]
    assert len(set(groups)) == 3
    assert all(len(group) == 16 and int(group, 16) >= 0 for group in groups)


@pytest.mark.parametrize("pair", [("", ""), ("Yes", "No"), (LONG, LONG)])
def test_answers_that_many_prompts_get_join_nothing(pair):
    assert assign_groups(table(*[(f"prompt {i}", *pair) for i in range(5)])).nunique() == 5


def test_empty_prompts_are_told_apart_by_their_answers():
    rows = [("", "a", "b"), ("", "b", "a"), (" ", "a", "c"), ("", "d", "e")]
    groups = assign_groups(table(*rows)).tolist()
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


def test_a_merged_group_has_the_smallest_of_the_names():
    rows = [(f"prompt {i}", LONG, "x") for i in range(4)]
    alone = [assign_groups(table(row)).item() for row in rows]
    assert assign_groups(table(*rows)).tolist() == [min(alone)] * 4


def test_index_is_kept_and_no_row_is_no_group():
    battles = table(("one", "a", "b"), ("two", "a", "b")).set_index(pd.Index([7, 3]))
    assert assign_groups(battles).index.tolist() == [7, 3]
    assert assign_groups(battles.iloc[:0]).tolist() == []


ROWS = st.lists(
    st.tuples(
        st.sampled_from("pqrstu"), st.sampled_from([LONG, LONG + "!", "x"]), st.sampled_from("yz")
    ),
    min_size=1,
    max_size=12,
)


@given(ROWS, ROWS)
def test_rows_added_later_move_a_group_only_by_merging_it(before, added):
    old = assign_groups(table(*before))
    new = assign_groups(table(*before, *added))
    for group in set(old):
        now = set(new[: len(old)][old == group])
        assert len(now) == 1  # Groups never part.
        members = set(new.index[new == now.pop()])
        prompts = {[*before, *added][i][0] for i in members}
        if prompts == {before[i][0] for i in old.index[old == group]}:
            assert set(new[sorted(members)]) == {group}


@given(ROWS, st.randoms())
def test_groups_do_not_depend_on_the_order_of_rows(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    groups = assign_groups(table(*rows))
    shuffled = assign_groups(table(*[rows[i] for i in order]))
    assert shuffled.tolist() == [groups[i] for i in order]


def test_folds_are_a_pure_function_of_the_name():
    folds = fold_of(["0000000000000000", "000000000000000b", "ffffffffffffffff"], 5)
    # 2**64 - 1 = 5 * 3689348814741910323, so it falls into fold 0.
    assert folds.tolist() == [0, 1, 0]
    assert folds.dtype == np.int64


def test_folds_are_even():
    groups = assign_groups(table(*[(f"prompt {i}", "a", "b") for i in range(2000)]))
    counts = np.bincount(fold_of(groups, 5), minlength=5)
    # 2,000 groups, 400 a fold on average with a standard deviation of 18.
    assert (abs(counts - 400) < 90).all()
