"""Verbosity by hand."""

import math

import pytest

from features import verbosity
from features.text import Text

PROMPT = Text(["Hi there"])
A = Text(["One two three. Four five six seven.\n\nEight.\nNine!", None])


def test_counts_are_logs_of_one_plus():
    assert verbosity.words(A, PROMPT) == pytest.approx(math.log(10))
    assert verbosity.sentences(A, PROMPT) == pytest.approx(math.log(3))
    assert verbosity.paragraphs(A, PROMPT) == pytest.approx(math.log(3))
    assert verbosity.lines(A, PROMPT) == pytest.approx(math.log(4))
    assert verbosity.characters(Text(["abcd"]), PROMPT) == pytest.approx(math.log(5))
    assert verbosity.sentence_words(A, PROMPT) == pytest.approx(math.log1p(9 / 2))
    assert verbosity.line_words(A, PROMPT) == pytest.approx(math.log1p(9 / 3))


def test_tokens_count_four_ascii_or_one_other_character():
    assert verbosity.tokens(Text(["abcdefgh你好"]), PROMPT) == pytest.approx(math.log(5))


def test_turns():
    assert verbosity.turns(Text(["a", "b"])) == 2
    assert verbosity.null_turns(A, PROMPT) == 1
    assert verbosity.empty_turns(Text([" \n", None, "x"]), PROMPT) == 2
    assert verbosity.last_turn_words(Text(["one two", "three"]), PROMPT) == pytest.approx(
        math.log(2)
    )
    assert verbosity.first_turn_characters(Text(["ab", "xyz"]), PROMPT) == pytest.approx(
        math.log(3)
    )


def test_flags():
    assert verbosity.longer_than_prompt(Text(["Hi there!"]), PROMPT) == 1
    assert verbosity.longer_than_prompt(Text(["Hi there"]), PROMPT) == 0
    assert verbosity.few_words(Text(["a b c d e"]), PROMPT) == 1
    assert verbosity.few_words(Text(["a b c d e f"]), PROMPT) == 0


def test_relative_length():
    a, b, empty = Text(["abc"]), Text(["a"]), Text([""])
    assert verbosity.relative_characters(a, b, PROMPT) == 0.5
    assert verbosity.relative_characters(b, a, PROMPT) == -0.5
    assert verbosity.relative_characters(empty, empty, PROMPT) == 0
    assert verbosity.relative_words(Text(["a b c"]), b, PROMPT) == 0.5
    assert verbosity.longer_turns(Text(["aa", "b"]), Text(["a", "bb"]), PROMPT) == 0
    assert verbosity.longer_turns(Text(["aa", "b"]), Text(["a", "b"]), PROMPT) == 0.5
