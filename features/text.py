"""A speaker's turns, with what several signals need computed once.

Counts of characters and turns see the whole text. Everything else sees at most the first ``HEAD``
and the last ``TAIL`` characters, so that a megabyte costs no more than a long answer does: 99% of
the answers of the LMSYS files are shorter than 7 thousand characters and lose nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cached_property, wraps
from typing import TypeVar

import numpy as np

from arena.battle import Turns

HEAD, TAIL = 14_000, 6_000

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
"""Kana, Han and Hangul: written without (reliable) spaces, so each character is a word."""

WORD = re.compile(f"[{CJK}]|[^\\W{CJK}]+(?:'[^\\W{CJK}]+)*")
CJK_WORDS = re.compile(f"[{CJK}]{{3}}")
SENTENCE = re.compile(r"\b[^.!?。！？]+[.!?。！？]*")
NUMBER = re.compile(r"(?<![\w.])\d{1,15}(?:,\d{3})*(?:\.\d{1,12})?(?![\d])")

T = TypeVar("T")


def clip(text: str) -> str:
    """The text's first ``HEAD`` and last ``TAIL`` characters, on either side of a line break."""
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"


def tokenize(text: str) -> list[str]:
    """Words in lower case; a contraction is one word, a CJK character is one word."""
    return WORD.findall(text.lower().replace("’", "'"))


class Text:
    """The turns of one speaker; a ``null`` turn counts as empty."""

    def __init__(self, turns: Turns) -> None:
        self.turns = [turn or "" for turn in turns]
        self.nulls = sum(turn is None for turn in turns)
        self.full = "\n".join(self.turns)
        self.text = clip(self.full)
        self.cache: dict[Callable[[Text], object], object] = {}

    @cached_property
    def final(self) -> Text:
        """The last turn alone."""
        return self if len(self.turns) == 1 else Text(self.turns[-1:])

    @cached_property
    def lower(self) -> str:
        """The clipped text in lower case, with plain apostrophes."""
        return self.text.lower().replace("’", "'")

    @cached_property
    def words(self) -> list[str]:
        """Words of the clipped text, see :func:`tokenize`."""
        return WORD.findall(self.lower)

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each word occurs."""
        return Counter(self.words)

    @cached_property
    def spoken(self) -> str:
        """Words joined by single spaces, with a space at both ends: phrases are looked up here."""
        return f" {' '.join(self.words)} "

    @cached_property
    def apart(self) -> str:
        """Like ``spoken``, but with two spaces: a phrase shares none with its own repetition."""
        return self.spoken.replace(" ", "  ")

    @cached_property
    def sentences(self) -> list[str]:
        """Sentences of at least three words (textstat's rule leaves out the shorter)."""
        found = SENTENCE.findall(self.text)
        return [s for s in found if len(s.split()) > 2 or CJK_WORDS.search(s)]

    @cached_property
    def lines(self) -> list[str]:
        """Stripped lines that are not empty."""
        return [line for line in map(str.strip, self.text.split("\n")) if line]

    @cached_property
    def codes(self) -> np.ndarray:
        """Code points of the clipped text, uint32."""
        return np.frombuffer(self.text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)

    @cached_property
    def ascii_counts(self) -> list[int]:
        """How often each of the 128 ASCII characters occurs."""
        data = self.text.encode("ascii", "ignore")
        counts: list[int] = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=128).tolist()
        return counts

    @cached_property
    def numbers(self) -> list[float]:
        """Numbers written in digits, in order."""
        return [float(n.replace(",", "")) for n in NUMBER.findall(self.text)]

    def count(self, characters: str) -> int:
        """How often any of these ASCII characters occurs."""
        return sum(self.ascii_counts[ord(c)] for c in characters)


def once(function: Callable[[Text], T]) -> Callable[[Text], T]:
    """Compute ``function`` once per text, for what several signals of a family share."""

    @wraps(function)
    def remembered(text: Text) -> T:
        if function not in text.cache:
            text.cache[function] = function(text)
        return text.cache[function]  # type: ignore[return-value]

    return remembered


class Lexicon:
    """Phrases that are looked up as whole words, whatever the punctuation between them."""

    def __init__(self, phrases: str) -> None:
        """``phrases`` are separated by ``|``."""
        # A phrase is searched only where its longest word occurs: a dictionary look-up per phrase.
        self.by_word: dict[str, list[str]] = {}
        for phrase in phrases.split("|"):
            words = tokenize(phrase)
            self.by_word.setdefault(max(words, key=len), []).append(f" {' '.join(words)} ")

    def found(self, text: Text) -> list[str]:
        """The phrases that occur in the text, each once, as they are looked up."""
        keys = self.by_word.keys() & text.counts.keys()
        return [p for key in keys for p in self.by_word[key] if p in text.spoken]

    def count(self, text: Text) -> int:
        """How often the phrases occur in the text, all together."""
        return sum(text.apart.count(p.replace(" ", "  ")[1:-1]) for p in self.found(text))

    def first(self, text: Text) -> int:
        """Words before the first phrase; all the words where none occurs."""
        places = [text.spoken.find(phrase) for phrase in self.found(text)]
        return text.spoken.count(" ", 0, min(places)) if places else len(text.words)

    def share(self, text: Text) -> float:
        """Occurrences per word."""
        return self.count(text) / max(1, len(text.words))
