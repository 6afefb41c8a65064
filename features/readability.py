"""Readability: the classical formulas, as textstat 0.7.8 computes them for English.

textstat splits the text and counts its syllables again for each formula, .1 to .2 ms each. Here
the counts are made once per text and a word's syllables are asked of textstat once per process,
with a faster search for hyphens in it; tests hold the results to textstat's own. A
text without words has no readability: NaN.

Formulas: Flesch (1948), Kincaid et al. (1975), Gunning (1952), McLaughlin (1969, SMOG), Coleman
and Liau (1975), Smith and Senter (1967, ARI), Chall and Dale (1995), Bjornsson (1968, LIX); the
constants are those in textstat's source.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import textstat
from pyphen import HyphDict, Pyphen

from features.signals import answer_signal, prompt_signal
from features.text import ASCII, MOST_SIGNS, Text, decode, encode, once, outside_ascii

NOT_CONTRACTION = re.compile(r"'(?!(?:[tsd]|ve|ll|re))")
PUNCTUATION = re.compile(r"[^\w\s']")
ASCII_PUNCTUATION = bytes(code for code in ASCII if PUNCTUATION.match(chr(code)))
LONGEST_WORD = 40
"""Characters after which a "word" is noise, whose syllables are not looked up."""
BITS = 20
"""Of each sum of a text, which is at most the clipped text's characters."""
MOST_WORDS = 200_000
"""Words that a process remembers before it begins anew: some 50 MB."""


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


@cache
def hyphenator() -> HyphDict:
    """The patterns by which textstat divides words that the CMU dictionary lacks: by ours now."""
    found = Pyphen(lang="en_US").hd
    found.positions = hyphens
    return found


@cache
def beginnings() -> frozenset[str]:
    """The beginnings of all patterns."""
    return frozenset(p[:end] for p in hyphenator().patterns for end in range(1, len(p) + 1))


def hyphens(word: str) -> list[int]:
    """Where a word in lower case may be divided, as ``HyphDict.positions`` finds it.

    Pyphen looks up every piece of the word among its patterns, .1 ms for each word of code or of
    another language, and keeps each answer for ever. Here a piece that begins no pattern ends the
    search.
    """
    pointed = f".{word}."
    levels = [0] * (len(pointed) + 1)
    patterns, begins = hyphenator().patterns, beginnings()
    for start in range(len(pointed) - 1):
        end = start + 1
        while (piece := pointed[start:end]) in begins and end <= len(pointed):
            if piece in patterns:
                offset, values = patterns[piece]
                for place, level in enumerate(values, start + offset):
                    levels[place] = max(levels[place], level)
            end += 1
    return [place - 1 for place, level in enumerate(levels) if level % 2]


class WordCounts(dict[str, int]):
    """What each word in lower case adds to ``Counts``, found when it is first asked for.

    Six numbers in one, so that a sum adds them all up: syllables; 1 or 0 each: three syllables,
    these and missing from Dale and Chall's list, missing from it, over six letters; characters.
    """

    def __missing__(self, word: str) -> int:
        if len(self) >= MOST_WORDS:
            self.clear()
        syllables, hard = 1, True
        if len(word) <= LONGEST_WORD:
            hyphenator()
            syllables = textstat.syllable_count(word)
            hard = bool(textstat.is_difficult_word(word, 0))
        many = syllables >= 3
        long = len(word) - word.count("'") > 6
        numbers = syllables, many, many and hard, hard, long, len(word)
        self[word] = sum(int(number) << BITS * i for i, number in enumerate(numbers))
        return self[word]

    def total(self, words: Sequence[str]) -> list[int]:
        """The six numbers, each added up over the words."""
        packed = sum(map(self.__getitem__, words))
        return [packed >> BITS * i & (1 << BITS) - 1 for i in range(6)]


WORD_COUNTS = WordCounts()


def without_punctuation(text: str) -> str:
    """A text without what ``PUNCTUATION`` finds, in a tenth of its time."""
    data = encode(text)
    plain = decode(data.translate(None, ASCII_PUNCTUATION))
    if text.isascii():
        return plain
    signs = set(PUNCTUATION.findall(outside_ascii(data)))
    if len(signs) > MOST_SIGNS:
        return PUNCTUATION.sub("", plain)
    for sign in signs:
        plain = plain.replace(sign, "")
    return plain


@once
def counts(text: Text) -> Counts:
    """Count as textstat does: hyphens and punctuation vanish, short sentences are left out."""
    plain = without_punctuation(NOT_CONTRACTION.sub("", text.text.replace("’", "'")))
    words = plain.lower().split()
    total = WORD_COUNTS.total(words)
    pieces = text.text.split()
    return Counts(
        characters=len("".join(pieces)),
        pieces=len(pieces),
        letters=total[5] - plain.count("'"),
        words=len(words),
        sentences=max(1, len(text.sentences)),
        syllables=total[0],
        polysyllables=total[1],
        difficult=total[2],
        hard=total[3],
        long=total[4],
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
