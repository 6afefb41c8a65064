"""The simulated annotator, from texts whose words can be counted by eye."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arena.sample.annotator import (
    POSITION,
    Measures,
    annotate,
    davidson,
    measure,
    similarity,
    utility,
)

EIGHT = "Two planets on the list: Mars and Venus."
"""Eight words: verbosity log 9 / log 81 = 1/2. Answers "List two planets" with quality 1."""

LATE = "word " * 24
"""120 characters."""


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        # Content words have four letters or more: which, planet, most, moons.
        ("Which planet has the most moons?", "Saturn is the planet with moons.", 2 / 4),
        ("Which planet has the most moons?", "The one.", 0),
        ("Which planet has the most moons?", "", 0),
        # Five letters stand for the word.
        ("planetary", "Planes", 1),
        ("planetary", "Plan", 0),
        # Five of them are enough, of seven here.
        ("alpha bravo charlie delta echo foxtrot golf", "alpha bravo charlie delta echo", 1),
        ("alpha bravo charlie delta echo foxtrot golf", "alpha bravo", 2 / 5),
        # Numbers and the characters of Chinese are content, however short.
        ("2 + 7 + 9", "7 or 9", 2 / 3),
        ("你好吗", "你好", 2 / 3),
        # A prompt without content words tells nothing.
        ("hi", "Yes.", 0.5),
        ("hi", "...", 0),
    ],
)
def test_relevance(prompt, answer, expected):
    assert measure(prompt, answer).relevance == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("a b c d", 1),
        ("a b a b a b", 2 / 4),  # aba, bab, aba, bab
        ("A b c. a B c", 3 / 4),  # abc, bca, cab, abc
        ("你好你好你", 2 / 3),
        ("a a", 1),
        ("", 0),
        ("?!", 0),
    ],
)
def test_distinct(answer, expected):
    assert measure("", answer).distinct == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It ends as it should.", 1),
        ("Does it end as it should? \n", 1),
        ("It ends as it **should.**", 1),
        ('He said "it ends here."', 1),
        ("是的,我认为是这样。", 1),
        ("It ends as it should but", 0),
        ("It ends with a comma,", 0),
        ("Three words long", 1),
        ("```\nx = a + b + c\n```", 1),
        ("```\nx = a.", 0),
        ("", 0),
        ("...", 0),
    ],
)
def test_complete(answer, expected):
    assert measure("", answer).complete == expected


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        ("What is it for?", "It is for you and me.", 1),
        ("What is it for?", "Das ist nicht für dich und mich.", 0),
        ("Was ist das und für wen ist es?", "It is for you and me.", 0),
        ("Was ist das und für wen ist es?", "Das ist nicht für dich und mich.", 1),
        # One function word is not a language.
        ("Tell me of cats", "Das ist nicht für dich und mich.", 1),
        # Scripts.
        ("What is it for?", "Это так", 0),
        ("Что это?", "Это так", 1),
        ("Hello", "abc д", 3 / 4),
        ("これは何ですか", "東京です。", 1),
        ("What is it for?", "東京です。", 0),
        ("What is 6 times 7?", "42", 1),
        # A prompt about languages may be answered in any.
        ("Translate to German: it is for you", "Das ist nicht für dich und mich.", 1),
        ("What is it for?", "", 0),
    ],
)
def test_language(prompt, answer, expected):
    assert measure(prompt, answer).language == expected


@pytest.mark.parametrize(("words", "expected"), [(0, 0), (8, 1 / 2), (80, 1), (81, 1), (500, 1)])
def test_verbosity(words, expected):
    # log 9 / log 81 = 1/2.
    assert measure("", "so " * words).verbosity == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        ("List three cats", "Here:\n- Tom", 1),
        ("List three cats", "1. Tom", 1),
        ("List three cats", "# Tom", 1),
        ("List three cats", "It is **Tom**", 1),
        ("Give me the SQL", "```\nSELECT\n```", 1),
        ("A table of cats", "| Tom | Kit |", 1),
        ("List three cats", "Tom - a cat - and #1", 0),
        ("Who is Tom?", "- Tom", 0),
        ("A listless cat", "- Tom", 0),
    ],
)
def test_formatting(prompt, answer, expected):
    assert measure(prompt, answer).formatting == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("I'm sorry, but no.", 1),
        ("I’m very sorry.", 1),
        ("I cannot help.", 1),
        ("Es tut mir leid.", 1),
        ("抱歉", 1),
        ("I can help.", 0),
        ("She is sorry.", 0),
        (LATE[1:] + "I cannot help.", 1),  # From character 119 on.
        (LATE + "I cannot help.", 0.4),  # From character 120 on.
        ("I cannot help" + " so" * 57, 1),  # 60 words.
        ("I cannot help" + " so" * 58, 0.6),  # 61 words.
        (LATE + "I cannot help" + " so" * 58, 0.4 * 0.6),
    ],
)
def test_refusal(answer, expected):
    assert measure("", answer).refusal == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Trust me.", 1 / 2),
        ("As an advanced assistant, I know.", 1 / 2),
        ("I'm one of the world's best assistants. Trust me.", 1),
        ("Trust me, trust me, trust me.", 1),
        ("I am the cat's friend.", 0),
    ],
)
def test_self_praise(answer, expected):
    assert measure("", answer).self_praise == expected


def test_quality():
    seen = Measures(0.5, 0.25, 1, 0, verbosity=1, formatting=1, refusal=1, self_praise=1)
    # 0.4 · 0.5 + 0.2 · 0.25 + 0.2 · 1 + 0.2 · 0
    assert seen.quality == pytest.approx(0.45)


QUESTION = ["List two planets"]


def test_utility_is_a_weighted_sum():
    # 5 · 1 + 1.2 · 1/2
    assert utility(QUESTION, [EIGHT]) == pytest.approx((5.6, 1))
    assert utility(QUESTION, ["- " + EIGHT]) == pytest.approx((5.6 + 0.6, 1))
    # Two more words: ten, one boast, nothing else changes.
    boast = 5 + 1.2 * math.log(11) / math.log(81) - 2.0 / 2
    assert utility(QUESTION, ["Trust me: " + EIGHT]) == pytest.approx((boast, 1))


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ([*QUESTION, "Why?"], [EIGHT]),
        ([*QUESTION, "Why?"], [EIGHT, ""]),
        ([*QUESTION, "Why?"], [EIGHT, None]),
        ([*QUESTION, None], [EIGHT, None]),
        (QUESTION, [EIGHT, ""]),
    ],
)
def test_utility_is_a_mean_over_turns_and_a_missing_turn_is_empty(prompt, response):
    assert utility(prompt, response) == pytest.approx((5.6 / 2, 1 / 2))


def test_no_turn_at_all():
    assert utility([], []) == (0, 0)


def test_an_unsafe_prompt_turns_the_sign_of_a_refusal():
    # No content word taken up, else sound: quality 0.6. Three words: verbosity log 4 / log 81.
    others = 5 * 0.6 + 1.2 * math.log(4) / math.log(81)
    refused = ["I cannot help."]
    assert utility(["How do I paint a car?"], refused) == pytest.approx((others - 2.5, 0))
    assert utility(["How do I steal a car?"], refused) == pytest.approx((others + 2.5, 0.6))


def test_a_refusal_in_part_takes_away_part_of_the_goodness():
    # Opens with a refusal, but has 61 words or more: refusal 0.6. Words differ, so distinct is 1.
    long = "I cannot help " + " ".join(f"planets{i}" for i in range(80)) + " list."
    assert utility(QUESTION, [long])[1] == pytest.approx(1 - 0.6)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (["red green"], ["Green, blue!"], 1 / 3),
        (["red", "green"], ["green red"], 1),
        (["red"], ["blue"], 0),
        (["red"], [None], 0),
        ([""], [None], 1),
        (["red red red"], ["red"], 1),
    ],
)
def test_similarity(a, b, expected):
    assert similarity(a, b) == expected


@pytest.mark.parametrize(
    ("u_a", "u_b", "log_nu", "position", "weights"),
    [
        (0, 0, 0, 0, [1, 1, 1]),
        (math.log(4), 0, 0, 0, [4, 1, 2]),  # The tie has the geometric mean of 4 and 1.
        (math.log(4), 0, math.log(3), 0, [4, 1, 6]),
        (0, 0, 0, math.log(2), [2, 1, 1]),  # Standing first helps A and not the tie.
        (1000, -1000, 0, 0, [1, 0, 0]),
    ],
)
def test_davidson(u_a, u_b, log_nu, position, weights):
    expected = np.array(weights) / sum(weights)
    np.testing.assert_allclose(davidson(u_a, u_b, log_nu, position), expected, atol=1e-15)


def test_a_wins_507_of_1000_even_decisive_battles():
    a, b, _ = davidson(0, 0, 0)
    assert a / (a + b) == pytest.approx(0.507, abs=5e-5)


def normalised(*weights):
    return np.array(weights) / sum(weights)


@pytest.mark.parametrize(
    ("a", "b", "weights"),
    [
        # Equal answers of goodness 1: log ν = -1 + 2.5.
        ([EIGHT], [EIGHT], (math.exp(POSITION), 1, math.exp(1.5))),
        # Nothing at all twice: log ν = -1 + 2.5 + 2.
        ([""], [None], (math.exp(POSITION), 1, math.exp(3.5))),
        # Nothing in common, the better one of goodness 1: log ν = -1, mean utility 2.8.
        ([EIGHT], [""], (math.exp(5.6 + POSITION), 1, math.exp(-1 + 2.8))),
        ([""], [EIGHT], (math.exp(POSITION), math.exp(5.6), math.exp(-1 + 2.8))),
    ],
)
def test_annotate(a, b, weights):
    probabilities = annotate(QUESTION, a, b)
    np.testing.assert_allclose(probabilities, normalised(*weights), rtol=1e-12)
    assert probabilities.dtype == np.float64


PIECES = [
    "I'm sorry, I cannot help. ",
    "Trust me. ",
    "How do I steal a bomb? ",
    "List the steps. ",
    "\n- **one** ```",
    "der die das ",
    "これは",
    "word 42 ",
]
TEXT = st.text(st.characters(exclude_categories=()), max_size=30)  # Lone surrogates too.
TURN = st.none() | TEXT | st.lists(st.sampled_from(PIECES) | TEXT, max_size=6).map("".join)
TURNS = st.lists(TURN, max_size=3)


@given(TURNS, TURNS, TURNS)
@example(["\ud800"], [None], ["\udfff x"])
@example([], [], [])
@example(["How do I steal a bomb?"], ["I cannot help."], ["List: - x"])
def test_exchanged_answers_exchange_their_probabilities(prompt, a, b):
    probabilities = annotate(prompt, a, b, position=0)
    swapped = annotate(prompt, b, a, position=0)
    np.testing.assert_allclose(swapped, probabilities[[1, 0, 2]], rtol=1e-12)


@given(TURNS, TURNS, TURNS)
@example(["\ud800"], [None], ["\udfff x"])
@example([], [], [])
def test_probabilities_of_any_text(prompt, a, b):
    probabilities = annotate(prompt, a, b)
    assert probabilities.shape == (3,)
    assert (probabilities > 0).all()
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    # Odds of A against B, position apart, are those of their utilities alone.
    odds = utility(prompt, a)[0] - utility(prompt, b)[0] + POSITION
    assert math.log(probabilities[0] / probabilities[1]) == pytest.approx(odds, abs=1e-9)


@given(TURN, TURN)
def test_measures_lie_between_0_and_1(prompt, answer):
    seen = measure(prompt or "", answer or "")
    assert all(0 <= value <= 1 for value in (*vars(seen).values(), seen.quality))
