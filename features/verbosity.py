"""Verbosity: the length of each answer. The longer answer wins about 61% of the decided votes."""

from __future__ import annotations

import math
import re

from features.signals import answer_signal, pair_signal, prompt_signal
from features.text import Text

PARAGRAPH = re.compile(r"\n[ \t]*\n")
CHARACTERS_PER_TOKEN = 4
"""Rule of thumb for byte-pair vocabularies on English text; a CJK character is about one token."""


def relative(x: float, y: float) -> float:
    """(x - y) / (x + y), 0 where both are 0: in [-1, 1], and it flips its sign with x and y."""
    return (x - y) / (x + y) if x + y else 0.0


@answer_signal
def characters(answer: Text, prompt: Text) -> float:
    """Log of 1 + characters of all turns; ``diff`` is the log-ratio of the lengths."""
    return math.log1p(len(answer.full))


@answer_signal
def words(answer: Text, prompt: Text) -> float:
    """Log of 1 + words."""
    return math.log1p(len(answer.words))


@answer_signal
def sentences(answer: Text, prompt: Text) -> float:
    """Log of 1 + sentences."""
    return math.log1p(len(answer.sentences))


@answer_signal
def paragraphs(answer: Text, prompt: Text) -> float:
    """Log of 1 + blocks between blank lines."""
    return math.log1p(sum(1 for block in PARAGRAPH.split(answer.text) if block.strip()))


@answer_signal
def lines(answer: Text, prompt: Text) -> float:
    """Log of 1 + lines that are not blank."""
    return math.log1p(len(answer.lines))


@answer_signal
def tokens(answer: Text, prompt: Text) -> float:
    """Log of 1 + approximate tokens: four ASCII characters, or one other character, are a token."""
    ascii_characters = sum(answer.ascii_counts)
    others = len(answer.text) - ascii_characters
    return math.log1p(ascii_characters / CHARACTERS_PER_TOKEN + others)


@answer_signal
def last_turn_words(answer: Text, prompt: Text) -> float:
    """Log of 1 + words of the last turn, the one that the voter saw last."""
    return math.log1p(len(answer.final.words))


@answer_signal
def first_turn_characters(answer: Text, prompt: Text) -> float:
    """Log of 1 + characters of the first turn."""
    return math.log1p(len(answer.turns[0]) if answer.turns else 0)


@answer_signal
def sentence_words(answer: Text, prompt: Text) -> float:
    """Log of 1 + mean words of a sentence."""
    return math.log1p(len(answer.words) / max(1, len(answer.sentences)))


@answer_signal
def line_words(answer: Text, prompt: Text) -> float:
    """Log of 1 + mean words of a line that is not blank."""
    return math.log1p(len(answer.words) / max(1, len(answer.lines)))


@answer_signal
def longer_than_prompt(answer: Text, prompt: Text) -> float:
    """1 where the answer has more characters than the prompt."""
    return float(len(answer.full) > len(prompt.full))


@answer_signal
def null_turns(answer: Text, prompt: Text) -> float:
    """Turns that are a JSON ``null``: the model gave nothing, not even an empty text."""
    return float(answer.nulls)


@answer_signal
def empty_turns(answer: Text, prompt: Text) -> float:
    """Turns without a visible character, ``null`` ones among them."""
    return float(sum(not turn.strip() for turn in answer.turns))


@answer_signal
def few_words(answer: Text, prompt: Text) -> float:
    """1 where the answer has at most five words."""
    return float(len(answer.words) <= 5)


@prompt_signal
def turns(prompt: Text) -> float:
    """Turns of the conversation."""
    return float(len(prompt.turns))


@pair_signal("anti")
def relative_characters(a: Text, b: Text, prompt: Text) -> float:
    """(a - b) / (a + b) of the characters; (1 + this) / 2 is A's share of the length."""
    return relative(len(a.full), len(b.full))


@pair_signal("anti")
def relative_words(a: Text, b: Text, prompt: Text) -> float:
    """(a - b) / (a + b) of the words."""
    return relative(len(a.words), len(b.words))


@pair_signal("anti")
def longer_turns(a: Text, b: Text, prompt: Text) -> float:
    """Turns in which A is longer minus turns in which B is, per turn."""
    pairs = list(zip(a.turns, b.turns, strict=False))
    return sum((len(x) > len(y)) - (len(x) < len(y)) for x, y in pairs) / max(1, len(pairs))
