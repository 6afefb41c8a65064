"""Where the answers part, by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import position
from features.text import Text

PROMPT = Text(["?"])


@given(st.text("ab", max_size=12), st.text("ab", max_size=12))
def test_shared_prefix_is_the_longest(a, b):
    n = position.shared_prefix(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


def test_prefix_and_suffix():
    a, b = Text(["The sky is blue."]), Text(["The sea is blue."])
    assert position.prefix(a, b, PROMPT) == pytest.approx(math.log(6))
    assert position.prefix_share(a, b, PROMPT) == 5 / 16
    assert position.suffix(a, b, PROMPT) == pytest.approx(math.log(10))
    assert position.suffix_share(a, b, PROMPT) == 9 / 16
    assert position.same_first_word(a, b, PROMPT) == 1
    assert position.same_first_word(a, Text(["A sky."]), PROMPT) == 0


def test_turns():
    a, b = Text(["same", "one", "x"]), Text(["same", "two", "x"])
    assert position.first_different_turn(a, b, PROMPT) == 1
    assert position.first_different_turn(a, a, PROMPT) == 3
    assert position.identical_turns(a, b, PROMPT) == 2 / 3


def test_identical():
    a = Text(["Yes, it is."])
    assert position.identical(a, Text(["Yes, it is."]), PROMPT) == 1
    assert position.identical(a, Text(["yes it is"]), PROMPT) == 0
    assert position.same_words(a, Text(["yes it is"]), PROMPT) == 1
