"""What is said in both orders, as columns that know their parity."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from arena.feature_table import FeatureTable
from embeddings.both_orders import columns, view_values

COLUMNS = columns("logits")
LOGITS = arrays(np.float32, (5, 3), elements=st.floats(-50, 50, width=32))


@given(LOGITS, LOGITS)
def test_exchanging_the_orders_is_the_swap_of_the_view(forward, swapped):
    there = FeatureTable(list("abcde"), view_values(forward, swapped), COLUMNS)
    back = FeatureTable(list("abcde"), view_values(swapped, forward), COLUMNS)
    assert np.array_equal(there.swap().values, back.values)


def test_columns_of_known_logits():
    # In either order the first answer has 3 more than fairness gives it; A has 1 more than B.
    found = view_values(np.array([[4.0, 0, 5]]), np.array([[2.0, 0, 6]]))
    assert dict(zip(COLUMNS, found[0], strict=True)) == {
        "side": 1,
        "tie": 4,
        "absside": 1,
        "position": 3,
        "absposition": 3,
        "tieshift": 2,
    }


def test_the_verdict_and_how_far_it_moves_are_of_two_families():
    assert [c.family for c in columns("verdict").values()] == ["verdict"] * 3 + ["position"] * 3
