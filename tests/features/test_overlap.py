"""Overlap with the prompt and between the answers, by hand."""

import math

import pytest

from features import overlap
from features.signals import PAIR
from features.text import Text

PROMPT = Text(["Do wild bees make honey?"])
"""Content words: wild, bees, make, honey."""
A = Text(["Wild bees make little honey, about 5 grams."])
"""Content words: wild, bees, make, little, honey, 5, grams."""
B = Text(["Bees are insects, 6 legs."])
"""Content words: bees, insects, 6, legs."""
NOTHING = Text(["It is."])


def test_content_words():
    assert overlap.content(PROMPT) == {"wild", "bees", "make", "honey"}
    assert overlap.content(A) == {"wild", "bees", "make", "little", "honey", "5", "grams"}
    assert overlap.content(Text(["We go to 我 by ox"])) == {"我"}
    assert overlap.content(NOTHING) == set()


def test_jaccard_and_shared():
    assert overlap.jaccard({"a", "b"}, {"b", "c"}) == 1 / 3
    assert overlap.jaccard(set(), set()) == 1
    assert overlap.jaccard({"a"}, set()) == 0
    assert overlap.shared({"a", "b"}, {"b", "c"}) == 1 / 2
    assert math.isnan(overlap.shared(set(), {"a"}))


def test_answer_and_prompt():
    assert overlap.prompt_words(A, PROMPT) == 4 / 7
    assert overlap.coverage(A, PROMPT) == 1
    assert overlap.coverage(B, PROMPT) == 1 / 4
    assert overlap.from_prompt(A, PROMPT) == 4 / 7
    assert overlap.novel_words(A, PROMPT) == pytest.approx(math.log(4))
    assert math.isnan(overlap.coverage(A, NOTHING))
    assert math.isnan(overlap.from_prompt(NOTHING, PROMPT))


def test_last_turn():
    prompt, answer = Text(["Do bees sting?", "Do wasps sting?"]), Text(["Bees do", "Wasps do"])
    assert overlap.last_coverage(answer, prompt) == 1 / 2
    assert overlap.coverage(answer, prompt) == 2 / 3
    assert overlap.opening_coverage(answer, prompt) == 1 / 2


def test_opening_ends_after_fifty_words():
    assert overlap.opening_coverage(Text(["so " * 49 + "honey"]), PROMPT) == 1 / 4
    assert overlap.opening_coverage(Text(["so " * 50 + "honey"]), PROMPT) == 0


def test_first_sentence():
    answer = Text(["Bees are lovely animals. Wild bees make honey."])
    assert overlap.first_sentence(answer, PROMPT) == 1 / 3
    assert overlap.first_sentence(Text(["Honey bread"]), PROMPT) == 1 / 2


def test_numbers_of_the_prompt():
    prompt = Text(["Add 5 and 7.0 and 5"])
    assert overlap.prompt_numbers(Text(["7 plus 1"]), prompt) == 1 / 2
    assert math.isnan(overlap.prompt_numbers(A, PROMPT))


def test_character_trigrams():
    same, other = Text(["Wild bees, make HONEY"]), Text(["zzz zzz"])
    assert overlap.prompt_trigrams(same, Text(["wild bees make honey"])) == pytest.approx(1)
    assert overlap.character_trigrams(A, A, PROMPT) == pytest.approx(1)
    assert overlap.character_trigrams(A, Text([""]), PROMPT) == 0
    assert overlap.prompt_trigrams(other, PROMPT) == 0
    # " ab", "ab " and " ab", "abc", "bc " have one in common.
    assert overlap.character_trigrams(Text(["ab"]), Text(["abc"]), PROMPT) == pytest.approx(
        1 / math.sqrt(2 * 3)
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # Words: 8 and 5, 1 shared. Content: 7 and 4, 1 shared; 3 and 3 new, 0 shared.
        ("words", 1 / 12),
        ("content_words", 1 / 10),
        ("new_content", 0),
        ("contained", 1 / 4),
        ("numbers", 0),
        ("final_number", 0),
    ],
)
def test_between_the_answers(name, value):
    compute = PAIR[f"overlap.{name}"].compute
    assert compute(A, B, PROMPT) == compute(B, A, PROMPT) == pytest.approx(value)
    assert compute(A, A, PROMPT) == 1


def test_numbers_need_numbers():
    assert math.isnan(overlap.numbers(NOTHING, NOTHING, PROMPT))
    assert overlap.numbers(A, NOTHING, PROMPT) == 0
    assert overlap.numbers(Text(["5, 6"]), Text(["6.0, 7"]), PROMPT) == 1 / 3
    assert math.isnan(overlap.final_number(A, NOTHING, PROMPT))
    assert overlap.final_number(Text(["1 + 4 = 5"]), Text(["So 5."]), PROMPT) == 1


def test_first_and_last_lines():
    a, b = Text(["Wild bees\nmake honey\nno more"]), Text(["wild wasps\n\nsting\nno more"])
    assert overlap.first_sentences(a, b, PROMPT) == 1 / 3
    assert overlap.last_lines(a, b, PROMPT) == 1
    assert overlap.last_lines(a, Text(["Wild bees"]), PROMPT) == 0
    assert overlap.first_sentences(Text([""]), Text([""]), PROMPT) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # Only A has wild, make, little, honey, 5, grams; only B has insects, 6, legs.
        ("extra_content", (6 - 3) / (6 + 3)),
        ("extra_opening", (6 - 3) / (6 + 3)),
        ("extra_coverage", 1),
        ("extra_numbers", 0),
    ],
)
def test_what_only_one_answer_has(name, value):
    compute = PAIR[f"overlap.{name}"].compute
    assert compute(A, B, PROMPT) == pytest.approx(value)


@pytest.mark.parametrize(
    "name", ["extra_content", "extra_opening", "extra_coverage", "extra_numbers"]
)
def test_anti_signals_flip_their_sign(name):
    signal = PAIR[f"overlap.{name}"]
    a, b = Text(["Wild bees make honey, 5 or 6 grams."]), Text(["Bees are insects, 7."])
    assert signal.parity == "anti"
    assert signal.compute(a, b, PROMPT) == -signal.compute(b, a, PROMPT) > 0
    assert signal.compute(a, a, PROMPT) == 0


def test_extra_opening_looks_at_fifty_words():
    late = Text(["so " * 50 + "honey"])
    assert overlap.extra_content(late, NOTHING, PROMPT) == 1
    assert overlap.extra_opening(late, NOTHING, PROMPT) == 0
