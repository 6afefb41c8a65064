"""Kinds of words, by hand."""

import math

import pytest

from features.signals import ANSWER
from features.text import Text

PROMPT = Text(["?"])


def value(name: str, text: str) -> float:
    return ANSWER[f"diction.{name}"](Text([text]), PROMPT)


@pytest.mark.parametrize(
    ("name", "text", "share"),
    [
        ("hedges", "Perhaps it might rain", 2 / 4),
        ("hedges", "Vielleicht regnet es", 1 / 3),
        ("hedges", "It rains", 0),
        ("certain", "It will definitely, always rain", 2 / 5),
        ("certain", "它一定下雨", 1 / 5),
        ("certain", "It rains", 0),
        ("first_person", "I’m glad I have my dog", 3 / 6),
        ("first_person", "It rains", 0),
        ("we", "Let's eat our bread", 2 / 4),
        ("we", "It rains", 0),
        ("second_person", "You love your dog", 2 / 4),
        ("second_person", "It rains", 0),
        ("negations", "No, no, it doesn't rain", 3 / 5),
        ("negations", "It rains", 0),
        ("reasons", "It rains because so", 1 / 4),
        ("reasons", "It rains", 0),
        ("steps", "First eat, then sleep, finally wake", 3 / 6),
        ("steps", "It rains", 0),
        ("contrasts", "Small, but strong", 1 / 3),
        ("contrasts", "On the other hand, no", 1 / 5),
        ("contrasts", "It rains", 0),
        ("examples", "Birds, for example owls", 1 / 4),
        ("examples", "It rains", 0),
        ("polite", "Please, and thank you", 2 / 4),
        ("polite", "It rains", 0),
        ("warm", "A great, beautiful day", 2 / 4),
        ("warm", "It rains", 0),
        ("digits", "a1 2", 2 / 4),
        ("digits", "", 0),
    ],
)
def test_shares(name, text, share):
    assert value(name, text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("distinct_words", "a bee and a bee", 3 / 5),
        ("guiraud", "a bee and a", 3 / 2),
        ("single_words", "a bee and a", 2 / 3),
        ("word_length", "a bee, he", math.log(2)),
        ("long_words", "harvest honeys", 1 / 2),
        ("stop_words", "the bee is in the hive", 4 / 6),
    ],
)
def test_measures(name, text, expected):
    assert value(name, text) == pytest.approx(expected)
    if name != "guiraud":
        assert math.isnan(value(name, "?!"))


def test_guiraud_of_no_words_is_zero():
    assert value("guiraud", "?!") == 0


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("numbers", "From 3 to 4.5, x2", 2),
        ("names", "We met Ann, Bob and Carl. Then Dora came; Eve left", 5),
        ("names", "We met. Then", 0),
    ],
)
def test_counts(name, text, count):
    assert value(name, text) == pytest.approx(math.log1p(count))
