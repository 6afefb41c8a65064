"""Repetition and degeneration: loops, echoes, padding."""

from __future__ import annotations

import math
import zlib

import numpy as np

from features.diction import telling_counts
from features.position import shared_prefix
from features.signals import answer_signal
from features.text import Text, codes, encode, once

MULTIPLIER = np.int64(0x9E3779B97F4A7C15 - 2**64)
SHORTEST_RUN = 4
LONGEST_UNIT = 200
"""Characters of the longest unit that is looked for as a loop."""
TAIL = 600
"""Characters at the end whose compression is measured: a degenerate answer loops there."""


def ratio(data: bytes) -> float:
    """Bytes after zlib's fastest compression / bytes before; low is repetitive, over 1 is short."""
    return len(zlib.compress(data, 1)) / len(data) if data else math.nan


def repeated(items: list[str] | list[tuple[str, ...]]) -> float:
    """Share of the items that occurred before."""
    return 1 - len(set(items)) / len(items) if items else 0.0


def repeats(characters: np.ndarray) -> np.ndarray:
    """Where a character is the one before it; bool, one shorter than ``characters``."""
    same: np.ndarray = characters[1:] == characters[:-1]
    return same


@once
def runs(text: Text) -> list[int]:
    """A number for each run of three words, equal where the runs are."""
    words = np.fromiter(map(hash, text.words), np.int64, len(text.words))
    # A polynomial modulo 2 ** 64; any odd multiplier does.
    numbers: list[int] = ((words[:-2] * MULTIPLIER + words[1:-1]) * MULTIPLIER + words[2:]).tolist()
    return numbers


@once
def distinct_runs(text: Text) -> set[int]:
    """Different runs of three words, as :func:`runs` numbers them."""
    return set(runs(text))


@once
def whole_ratio(text: Text) -> float:
    """The ratio of the clipped text."""
    return ratio(text.data)


@answer_signal
def compression(answer: Text, prompt: Text) -> float:
    """Zlib compression ratio of the answer."""
    return whole_ratio(answer)


@answer_signal
def tail_compression(answer: Text, prompt: Text) -> float:
    """Zlib compression ratio of the last 600 characters."""
    text = answer.text
    return ratio(encode(text[-TAIL:])) if len(text) > TAIL else whole_ratio(answer)


@answer_signal
def trigrams(answer: Text, prompt: Text) -> float:
    """Share of the runs of three words that occurred before."""
    mine = runs(answer)
    return 1 - len(distinct_runs(answer)) / len(mine) if mine else 0.0


@answer_signal
def lines(answer: Text, prompt: Text) -> float:
    """Share of the lines that occurred before."""
    return repeated(answer.lines)


@answer_signal
def sentences(answer: Text, prompt: Text) -> float:
    """Share of the sentences that occurred before."""
    return repeated([sentence.strip() for sentence in answer.sentences])


@answer_signal
def openings(answer: Text, prompt: Text) -> float:
    """Share of the sentences whose first two words opened another sentence before."""
    return repeated([tuple(sentence.split(maxsplit=2)[:2]) for sentence in answer.sentences])


@answer_signal
def longest_run(answer: Text, prompt: Text) -> float:
    """Log of 1 + length of the longest run of one visible character, from four on."""
    text = answer.text
    if text.isascii():
        same = repeats(np.frombuffer(answer.data, dtype=np.uint8))
    else:
        same = repeats(codes(text))
    # Most texts have no run, and need no more than this look at neighbours.
    if not (same[2:] & same[1:-1] & same[:-2]).any():
        return 0.0
    changes = np.flatnonzero(~same) + 1
    starts = np.concatenate([[0], changes])
    lengths = np.concatenate([changes, [len(text)]]) - starts
    long = np.flatnonzero(lengths >= SHORTEST_RUN)
    return math.log1p(
        max((int(lengths[i]) for i in long if not text[starts[i]].isspace()), default=0)
    )


@answer_signal
def loop(answer: Text, prompt: Text) -> float:
    """Log of 1 + characters of the unit that the answer ends with three times in a row."""
    end = answer.text.rstrip()
    most = min(LONGEST_UNIT, len(end) // 3)
    if most < 2:
        return 0.0
    # Its last two characters alone rule out most sizes.
    last, first_place, place = end[-2:], len(end) - 2 - most, len(end) - 2
    while (place := end.rfind(last, first_place, place)) >= 0:
        size = len(end) - 2 - place
        unit = end[-size:]
        if unit == end[-2 * size : -size] == end[-3 * size : -2 * size]:
            return math.log1p(size)
        place += 1
    return 0.0


@answer_signal
def top_word(answer: Text, prompt: Text) -> float:
    """Share of the most frequent word that is no function word."""
    most = max(telling_counts(answer), default=0)
    return most / len(answer.words) if answer.words else math.nan


@answer_signal
def echo(answer: Text, prompt: Text) -> float:
    """Share of the last prompt that the last answer begins with, to the letter."""
    question, reply = prompt.final.text.strip().lower(), answer.final.text.strip().lower()
    return shared_prefix(question, reply) / len(question) if question else 0.0


@answer_signal
def copied_lines(answer: Text, prompt: Text) -> float:
    """Share of the answer's lines that are lines of the prompt."""
    theirs = set(prompt.lines)
    return sum(line in theirs for line in answer.lines) / max(1, len(answer.lines))


@answer_signal
def copied_trigrams(answer: Text, prompt: Text) -> float:
    """Share of the answer's runs of three words that are in the prompt."""
    mine, common = runs(answer), distinct_runs(answer) & distinct_runs(prompt)
    return sum(map(common.__contains__, mine)) / max(1, len(mine)) if common else 0.0


@answer_signal
def repeated_turns(answer: Text, prompt: Text) -> float:
    """Share of the turns that repeat an earlier turn."""
    return repeated([turn.strip() for turn in answer.turns])
