"""Repetition and degeneration, by hand."""

import math

import pytest

from features import repetition
from features.text import Text

PROMPT = Text(["What is it?"])
PROSE = (
    "Bees live in hives. Each hive has one queen, who lays every egg. Workers fly out for pollen "
    "and come home with enough to feed the brood. In winter they huddle and shiver to stay warm. "
)
LOOP = "and then again " * 100


def test_compression_is_low_for_loops():
    prose, loop = (repetition.compression(Text([text]), PROMPT) for text in (PROSE, LOOP))
    assert loop < 0.1 < 0.5 < prose < 1
    assert repetition.compression(Text(["Hi"]), PROMPT) > 1
    assert math.isnan(repetition.compression(Text([""]), PROMPT))


def test_tail_compression_sees_where_the_answer_degenerates():
    answer = Text([PROSE + LOOP])
    assert repetition.tail_compression(answer, PROMPT) < repetition.compression(answer, PROMPT)
    prose = Text([LOOP + PROSE * 4])
    assert repetition.tail_compression(prose, PROMPT) == repetition.ratio(
        (PROSE * 4)[-600:].encode()
    )
    assert math.isnan(repetition.tail_compression(Text([""]), PROMPT))


@pytest.mark.parametrize(
    ("name", "text", "share"),
    [
        ("trigrams", "a b c a b c", 1 / 4),
        ("trigrams", "a b", 0),
        ("lines", "x\n y \n\nx\nx", 2 / 4),
        ("lines", "", 0),
        ("sentences", "I like tea. You do not. I like tea.", 1 / 3),
        ("sentences", "I like tea. I like milk.", 0),
        ("openings", "I like tea. I like milk. You like tea.", 1 / 3),
        ("openings", "I like tea. I hate milk.", 0),
        ("top_word", "the cat saw the cat", 2 / 5),
        ("top_word", "the and of", 0),
    ],
)
def test_shares(name, text, share):
    assert getattr(repetition, name)(Text([text]), PROMPT) == pytest.approx(share)


def test_top_word_needs_words():
    assert math.isnan(repetition.top_word(Text(["?"]), PROMPT))


@pytest.mark.parametrize(("text", "length"), [("hmmmmm aaaa", 5), ("-- aaa", 0), ("    ", 0)])
def test_longest_run(text, length):
    assert repetition.longest_run(Text([text]), PROMPT) == pytest.approx(math.log1p(length))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("Well: abc abc abc\n", 4),
        ("Well: abc abc", 0),
        ("abc abc abc and done", 0),
        ("x" + "0123456789" * 20 * 3, 10),
        ("x" + "".join(map(chr, range(0x4E00, 0x4E00 + 200))) * 3, 200),
        ("x" + "".join(map(chr, range(0x4E00, 0x4E00 + 201))) * 3, 0),
    ],
)
def test_loop_at_the_end(text, size):
    assert repetition.loop(Text([text]), PROMPT) == pytest.approx(math.log1p(size))


@pytest.mark.parametrize(
    ("text", "share"),
    [(" what is it? A bee.", 1), ("What was", 5 / 11), ("A bee. What is it?", 0), ("", 0)],
)
def test_echo_of_the_prompt(text, share):
    assert repetition.echo(Text([text]), PROMPT) == pytest.approx(share)


def test_echo_looks_at_the_last_turn():
    assert repetition.echo(Text(["What is it?", "No"]), Text(["What is it?", "A bee?"])) == 0
    assert repetition.echo(Text(["No"]), Text([""])) == 0


def test_copies_of_the_prompt():
    prompt = Text(["red green blue\npink"])
    answer = Text(["red green blue\nand red green"])
    assert repetition.copied_lines(answer, prompt) == 1 / 2
    # red green blue | green blue and | blue and red | and red green
    assert repetition.copied_trigrams(answer, prompt) == 1 / 4
    assert repetition.copied_lines(Text([""]), prompt) == 0
    assert repetition.copied_trigrams(Text(["red green"]), prompt) == 0


def test_repeated_turns():
    assert repetition.repeated_turns(Text(["a", "b", "a ", "c"]), PROMPT) == 1 / 4
    assert repetition.repeated_turns(Text(["a"]), PROMPT) == 0
