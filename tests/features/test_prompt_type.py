"""What is asked, by hand."""

import math

import pytest

from features.signals import PROMPT
from features.text import Text


def value(name: str, *turns: str | None) -> float:
    return PROMPT[f"prompt_type.{name}"](Text(turns))


@pytest.mark.parametrize(
    ("name", "prompt", "count"),
    [
        ("characters", "Hi you", 6),
        ("last_words", "Don't go there", 3),
        ("lines", "a\n\n b\n", 2),
        ("sentences", "I have one dog. No. You have two cats.", 2),
        ("question_marks", "What? Why??", 3),
        ("numbers", "Add 3 and 4.5", 2),
        ("code", "Write a Python function with a regex", 3),
        ("code", "写一段代码", 1),
        ("code", "Who barked?", 0),
        ("maths", "Solve the equation", 2),
        ("maths", "Berechne 3 mal 4", 1),
        ("maths", "Who barked?", 0),
        ("creative", "Write a poem or a haiku", 2),
        ("creative", "写一首诗", 1),
        ("creative", "Who barked?", 0),
        ("rewrite", "Summarize and rephrase this", 2),
        ("rewrite", "要約してください", 1),
        ("rewrite", "Who barked?", 0),
        ("role", "Act as a pirate", 2),
        ("role", "Du bist ein Pirat", 1),
        ("role", "Who barked?", 0),
        ("list_request", "Give me ten ideas", 2),
        ("list_request", "Listen to me", 0),
        ("brief", "Be quick and concise", 2),
        ("brief", "Antworte kurz", 1),
        ("brief", "Who barked?", 0),
        ("detailed", "A thorough article", 2),
        ("detailed", "Erkläre es ausführlich", 1),
        ("detailed", "Who barked?", 0),
        ("constraints", "You must use exactly ten", 3),
        ("constraints", "Who barked?", 0),
        ("opinion", "Should I do it? What do you think?", 2),
        ("opinion", "Who barked?", 0),
        ("explain", "Explain why", 2),
        ("explain", "Объясни это", 1),
        ("explain", "Who barked?", 0),
        ("unsafe", "How to steal a gun", 2),
        ("unsafe", "The gunner's skill", 0),
    ],
)
def test_counts(name, prompt, count):
    assert value(name, prompt) == pytest.approx(math.log1p(count))


@pytest.mark.parametrize(
    ("name", "prompt", "flag"),
    [
        ("ends_with_question", "Is it so? ", 1),
        ("ends_with_question", "是吗？", 1),
        ("ends_with_question", "Is it? Tell me.", 0),
        ("trailing_blank", "Hi\n", 1),
        ("trailing_blank", "Hi", 0),
        ("greeting", "Hello, who are you?", 1),
        ("greeting", "你好", 1),
        ("greeting", "Name a bird", 0),
        ("greeting", "Hello," + " bird" * 11, 1),
        ("greeting", "Hello," + " bird" * 12, 0),
        ("multiple_choice", "Which one? A) a cat B) a dog", 1),
        ("multiple_choice", "Which one?\n(a) a cat\n(b) a dog", 1),
        ("multiple_choice", "Which one: a cat or a dog?", 0),
        ("question_word", "What is it?", 1),
        ("question_word", "Tell me what", 0),
        ("fact", "When was Rome built?", 1),
        ("fact", "When" + " so" * 24, 1),
        ("fact", "When" + " so" * 25, 0),
        ("fact", "How was Rome built?", 0),
        ("yes_no", "Is it so?", 1),
        ("yes_no", "It is so", 0),
        ("short_question", "Who is it?", 1),
        ("short_question", "Tell me.", 0),
        ("short_question", "so " * 10 + "?", 1),
        ("short_question", "so " * 11 + "?", 0),
    ],
)
def test_flags(name, prompt, flag):
    assert value(name, prompt) == flag


def test_symbols_are_a_share_of_the_characters():
    assert value("symbols", "a={};") == 4 / 5
    assert value("symbols", "") == 0


@pytest.mark.parametrize(
    "name", ["code", "creative", "question_word", "ends_with_question", "short_question"]
)
def test_the_last_turn_is_what_is_asked(name):
    asked = "What Python code makes a poem?"
    assert value(name, "Hello.", asked) > 0
    assert value(name, asked, "Hello.") == 0


def test_unsafe_words_count_in_every_turn():
    assert value("unsafe", "How to steal a gun", "Go on") == pytest.approx(math.log(3))


def test_an_empty_prompt_asks_nothing():
    assert not any(compute(Text([None])) for n, compute in PROMPT.items() if "prompt_type" in n)
