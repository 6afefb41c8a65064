"""Readability: held to textstat's own functions, and two formulas by hand."""

import math

import pytest
import textstat
from hypothesis import given, settings
from hypothesis import strategies as st

from features import readability
from features.signals import ANSWER
from features.text import Text

PROMPT = Text(["?"])
TEXTSTAT = {
    "flesch": textstat.flesch_reading_ease,
    "kincaid": textstat.flesch_kincaid_grade,
    "fog": textstat.gunning_fog,
    "smog": textstat.smog_index,
    "coleman_liau": textstat.coleman_liau_index,
    "automated": textstat.automated_readability_index,
    "dale_chall": textstat.dale_chall_readability_score,
    "lix": textstat.lix,
}
TEXTS = [
    "The cat sat on the mat. The dog ran to the park. They had a good day in the sun.",
    "Photosynthesis converts light into chemical energy. Chlorophyll absorbs predominantly red and "
    "blue wavelengths, while carbohydrates accumulate inside the chloroplasts of the cell.",
    "Don't worry: it's a well-known problem! They weren't here, so we haven't met. \"You'll see,\" "
    "said Ann's brother, 'and they're all coming.' Isn't that nice?",
    "In 1969, 2 people walked on the Moon. It cost $25.8 billion (about 4% of the budget). Yes. "
    "The mission returned 21.5 kg of rock.",
    "# Steps\n\n1. Preheat the oven to 180 degrees.\n2. Mix flour, sugar and butter.\n\n**Note:** "
    "unsalted butter works best; margarine is an acceptable alternative.\n",
    "Three eggs - two yolks. Salt - pepper! Some * (oil) * and vinegar: a dressing. 1 = one? No.",
]
WORDS = st.sampled_from(
    [
        *("the", "cat", "don't", "weren't", "they've", "o'clock", "Ann's", '"quoted"', "ran,"),
        *("-", "42", "(possibly)", "well-known", "re-enter", "university", "extraordinarily"),
    ]
)
SENTENCE = st.builds(
    lambda words, end: f"So it is {' '.join(words)}{end}",
    st.lists(WORDS, min_size=1, max_size=12),
    st.sampled_from([".", "!", "?", "..."]),
)


def value(name: str, text: str) -> float:
    return ANSWER[f"readability.{name}"](Text([text]), PROMPT)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", TEXTSTAT)
def test_like_textstat(name, text):
    assert value(name, text) == pytest.approx(TEXTSTAT[name](text), rel=1e-9, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(SENTENCE, min_size=1, max_size=4).map(" ".join))
def test_like_textstat_whatever_the_words(text):
    for name, function in TEXTSTAT.items():
        assert value(name, text) == pytest.approx(function(text), rel=1e-9, abs=1e-9), name


def test_by_hand():
    # Six words of one syllable and 17 letters in one sentence, none of them hard or long.
    text = "The cat sat on the mat."
    assert value("flesch", text) == pytest.approx(206.835 - 1.015 * 6 - 84.6)
    assert value("kincaid", text) == pytest.approx(0.39 * 6 + 11.8 - 15.59)
    assert value("fog", text) == pytest.approx(0.4 * 6)
    assert value("smog", text) == pytest.approx(3.1291)
    assert value("coleman_liau", text) == pytest.approx(5.8 * 17 / 6 - 29.6 / 6 - 15.8)
    assert value("automated", text) == pytest.approx(4.71 * 18 / 6 + 0.5 * 6 - 21.43)
    assert value("dale_chall", text) == pytest.approx(0.0496 * 6)
    assert value("lix", text) == 6


def test_syllables_and_hard_words():
    # "banana" has three syllables; "ocelot" has three and is not in Dale and Chall's list.
    text = "A banana, an ocelot."
    assert value("syllables", text) == (1 + 3 + 1 + 3) / 4
    assert value("hard_words", text) == 1 / 4
    assert readability.prompt_syllables(Text([text])) == 2


def test_harder_text_is_harder():
    easy, hard = TEXTS[0], TEXTS[1]
    assert value("flesch", easy) > value("flesch", hard)
    for name in [*TEXTSTAT, "syllables", "hard_words"]:
        if name != "flesch":
            assert value(name, easy) < value(name, hard), name


@pytest.mark.parametrize("text", ["", " \n", "?!", "- * -"])
def test_without_words_there_is_no_readability(text):
    for name in [*TEXTSTAT, "syllables", "hard_words"]:
        assert math.isnan(value(name, text)), name
    assert math.isnan(readability.prompt_syllables(Text([text])))


def test_noise_has_one_hard_syllable():
    numbers = readability.word_numbers("ab" * 30)
    assert numbers == (1, 0, 0, 1, 1, 60)


def test_numbers_of_a_word_by_hand():
    # Syllables, three of them or more, these and missing from Dale and Chall's list, missing from
    # it, over six letters, characters.
    assert readability.word_numbers("banana") == (3, 1, 0, 0, 0, 6)
    assert readability.word_numbers("ocelot") == (3, 1, 1, 1, 0, 6)
    assert readability.word_numbers("weren't") == (2, 0, 0, 1, 0, 7)
    assert readability.word_numbers("brother's") == (2, 0, 0, 1, 1, 9)
