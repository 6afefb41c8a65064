"""Readability: the classical formulas, as textstat 0.7.8 computes them for English.

textstat splits the text and counts its syllables again for each formula, .1 to .2 ms each. Here
the counts are made once per text, and textstat counts a word's syllables once per process; tests
hold the results to textstat's own. A text without words has no readability: NaN.

Formulas: Flesch (1948), Kincaid et al. (1975), Gunning (1952), McLaughlin (1969, SMOG), Coleman
and Liau (1975), Smith and Senter (1967, ARI), Chall and Dale (1995), Bjornsson (1968, LIX); the
constants are those in textstat's source.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import textstat

from features.signals import answer_signal, prompt_signal
from features.text import Text, once

NOT_CONTRACTION = re.compile(r"'(?!(?:[tsd]|ve|ll|re))")
PUNCTUATION = re.compile(r"[^\w\s']")
LONGEST_WORD = 40
"""Characters after which a "word" is noise, whose syllables are not looked up."""
MOST_WORDS = 200_000
"""Words whose numbers a process remembers: some 50 MB."""


@dataclass(frozen=True)
class Counts:
    """What the formulas need; ``sentences`` is at least 1, bare punctuation is a piece, too."""

    characters: int
    pieces: int
    letters: int
    words: int
    sentences: int
    syllables: int
    polysyllables: int
    difficult: int
    hard: int
    long: int


class WordNumbers(NamedTuple):
    """What a word adds to ``Counts``."""

    syllables: int
    polysyllables: int
    difficult: int
    hard: int
    long: int
    characters: int


NO_WORD = WordNumbers(0, 0, 0, 0, 0, 0)


@lru_cache(MOST_WORDS)
def word_numbers(word: str) -> WordNumbers:
    """The numbers of a word in lower case; noise counts as one hard syllable."""
    syllables, hard = 1, True
    if len(word) <= LONGEST_WORD:
        syllables = textstat.syllable_count(word)
        hard = bool(textstat.is_difficult_word(word, 0))
    many = syllables >= 3
    long = len(word) - word.count("'") > 6
    return WordNumbers(syllables, many, many and hard, hard, long, len(word))


@once
def counts(text: Text) -> Counts:
    """Count as textstat does: hyphens and punctuation vanish, short sentences are left out."""
    plain = PUNCTUATION.sub("", NOT_CONTRACTION.sub("", text.text.replace("’", "'")))
    words = plain.lower().split()
    total = WordNumbers(*map(sum, zip(NO_WORD, *map(word_numbers, words), strict=True)))
    pieces = text.text.split()
    return Counts(
        characters=len("".join(pieces)),
        pieces=len(pieces),
        letters=total.characters - plain.count("'"),
        words=len(words),
        sentences=max(1, len(text.sentences)),
        syllables=total.syllables,
        polysyllables=total.polysyllables,
        difficult=total.difficult,
        hard=total.hard,
        long=total.long,
    )


@answer_signal
def flesch(answer: Text, prompt: Text) -> float:
    """Flesch reading ease: about 100 is very easy, about 0 very hard."""
    c = counts(answer)
    if not c.words:
        return math.nan
    return 206.835 - 1.015 * c.words / c.sentences - 84.6 * c.syllables / c.words


@answer_signal
def kincaid(answer: Text, prompt: Text) -> float:
    """Flesch-Kincaid grade: years of school in the United States."""
    c = counts(answer)
    if not c.words:
        return math.nan
    return 0.39 * c.words / c.sentences + 11.8 * c.syllables / c.words - 15.59


@answer_signal
def fog(answer: Text, prompt: Text) -> float:
    """Gunning fog index; difficult: three syllables and not in Dale and Chall's list."""
    c = counts(answer)
    if not c.words:
        return math.nan
    return 0.4 * (c.words / c.sentences + 100 * c.difficult / c.words)


@answer_signal
def smog(answer: Text, prompt: Text) -> float:
    """SMOG grade, from words of three syllables and more."""
    c = counts(answer)
    if not c.words:
        return math.nan
    return 1.043 * math.sqrt(30 * c.polysyllables / c.sentences) + 3.1291


@answer_signal
def coleman_liau(answer: Text, prompt: Text) -> float:
    """Coleman-Liau index, from letters rather than syllables."""
    c = counts(answer)
    if not c.words:
        return math.nan
    return 5.8 * c.letters / c.words - 29.6 * c.sentences / c.words - 15.8


@answer_signal
def automated(answer: Text, prompt: Text) -> float:
    """Automated readability index (ARI)."""
    c = counts(answer)
    if not c.words:
        return math.nan
    return 4.71 * c.characters / c.pieces + 0.5 * c.words / c.sentences - 21.43


@answer_signal
def dale_chall(answer: Text, prompt: Text) -> float:
    """Dale-Chall score, from words missing from a list of easy ones."""
    c = counts(answer)
    if not c.words:
        return math.nan
    percent = 100 * c.hard / c.words
    score = 0.1579 * percent + 0.0496 * c.words / c.sentences
    return score + 3.6365 if percent > 5 else score


@answer_signal
def lix(answer: Text, prompt: Text) -> float:
    """LIX, which needs no syllables and so serves many languages."""
    c = counts(answer)
    if not c.words:
        return math.nan
    return c.words / c.sentences + 100 * c.long / c.words


@answer_signal
def syllables(answer: Text, prompt: Text) -> float:
    """Mean syllables of a word."""
    c = counts(answer)
    return c.syllables / c.words if c.words else math.nan


@answer_signal
def hard_words(answer: Text, prompt: Text) -> float:
    """Share of the words that are missing from Dale and Chall's list of easy ones."""
    c = counts(answer)
    return c.hard / c.words if c.words else math.nan


@prompt_signal
def prompt_syllables(prompt: Text) -> float:
    """Mean syllables of a word of the prompt."""
    c = counts(prompt)
    return c.syllables / c.words if c.words else math.nan
