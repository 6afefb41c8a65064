"""Does the answer do what was asked? By hand."""

import math

import pytest

from features import request
from features.language import language
from features.signals import ANSWER
from features.text import Text


def value(name: str, prompt: str, answer: str) -> float:
    return ANSWER[f"request.{name}"](Text([answer]), Text([prompt]))


@pytest.mark.parametrize(
    ("prompt", "size"),
    [
        ("Write 100 words on bees", (100, "word")),
        ("A 200-word essay", (200, "word")),
        ("A 1,500 word essay", (1500, "word")),
        ("In one sentence, please", (1, "sentence")),
        ("Write Three Paragraphs", (3, "paragraph")),
        ("Write some words", None),
        ("Give me 5 ideas", None),
    ],
)
def test_size_that_is_asked_for(prompt, size):
    assert request.size(Text([prompt])) == size


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ("Give me five ideas", 5),
        ("What are the 10 largest cities?", 10),
        ("the top 3 best movies", 3),
        ("Suggest twelve names", 12),
        ("Write 100 words", None),
        ("I have 5 dogs", None),
    ],
)
def test_items_that_are_asked_for(prompt, count):
    assert request.item_count(Text([prompt])) == count


def test_miss_is_a_log_ratio():
    assert request.miss(5, 5) == 0
    assert request.miss(1, 4) == request.miss(4, 1) == pytest.approx(math.log(3))


@pytest.mark.parametrize(
    ("prompt", "answer", "miss"),
    [
        ("Write four words", "Bees are quite small", 0),
        ("Write four words", "Bees", math.log(4.5 / 1.5)),
        ("Write two sentences", "Bees are small. They make honey.", 0),
        ("Write one sentence", "Bees are small. They make honey.", math.log(2.5 / 1.5)),
        ("Write two paragraphs", "Bees.\n\n\n\nHoney.", 0),
        ("Write two paragraphs", "Bees.\nHoney.", math.log(2.5 / 1.5)),
    ],
)
def test_size_miss(prompt, answer, miss):
    assert value("size_miss", prompt, answer) == pytest.approx(miss)


@pytest.mark.parametrize(
    ("answer", "miss"),
    [
        ("Here you are:\n- red\n- green\n- blue", 0),
        ("red\ngreen\nblue", 0),
        ("red, green, blue", 0),
        ("red", math.log(3.5 / 1.5)),
        ("1. red\n2. green", math.log(3.5 / 2.5)),
    ],
)
def test_items_miss(answer, miss):
    assert value("items_miss", "Name three colors", answer) == pytest.approx(miss)


@pytest.mark.parametrize(
    ("name", "prompt", "answer", "missing"),
    [
        ("code_missing", "Write Python code", "```\nprint(1)\n```", 0),
        ("code_missing", "Write Python code", "a = {}; b = {};", 0),
        ("code_missing", "Write Python code", "You could use a loop.", 1),
        ("list_missing", "Give me some tips", "- rest\n- drink", 0),
        ("list_missing", "Give me some tips", "Rest and drink.", 1),
        ("table_missing", "Make a table", "| a |\n|---|\n| b |", 0),
        ("table_missing", "Make a table", "a: b", 1),
        ("json_missing", "As JSON", '{"a": 1}', 0),
        ("json_missing", "As JSON", "a: 1", 1),
        ("number_missing", "How many bees are there?", "About 40 thousand", 0),
        ("number_missing", "How many bees are there?", "Very many", 1),
        ("yes_no_missing", "Is it true?", "Yes, it is.", 0),
        ("yes_no_missing", "Is it true?", "Well, no, never.", 0),
        ("yes_no_missing", "Is it true?", "That depends on it, yes", 1),
        ("choice_missing", "Which? A) cat B) dog ", "It is B.", 0),
        ("choice_missing", "Which? A) cat B) dog ", "It is (b)", 0),
        ("choice_missing", "Which? A) cat B) dog ", "The dog", 1),
        ("verse_lines", "Write a poem", "O bee\nin the tree", 1),
        ("verse_lines", "Write a poem", "O bee\n" + "so it goes " * 6, 1 / 2),
    ],
)
def test_what_is_missing(name, prompt, answer, missing):
    assert value(name, prompt, answer) == missing


@pytest.mark.parametrize(
    "name", [name.partition(".")[2] for name in ANSWER if name.startswith("request.")]
)
def test_nothing_asked_is_nothing_missing(name):
    assert math.isnan(value(name, "Tell me about bees", "Bees make honey."))


GERMAN = "Die Bienen leben in einem Bienenstock und sammeln Honig."


@pytest.mark.parametrize("prompt", ["Answer in German.", "Antworte auf Deutsch!"])
def test_wrong_target(prompt):
    english = "The bees live in a hive and they are making honey for the winter."
    assert value("wrong_target", prompt, GERMAN) == 0
    assert value("wrong_target", prompt, english) == language(Text([english])).probability > 0.9


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("words_if_brief", "Explain it briefly"),
        ("words_if_detailed", "Explain it in detail"),
        ("words_if_creative", "A story about it"),
    ],
)
def test_words_where_length_is_asked_for(name, prompt):
    assert value(name, prompt, "Bees make honey") == pytest.approx(math.log(4))


def test_the_last_turns_count():
    prompt = Text(["Write 100 words", "Name two bees"])
    answer = Text(["Some words", "Red, blue"])
    assert request.items_miss(answer, prompt) == 0
    assert math.isnan(request.size_miss(answer, prompt))
