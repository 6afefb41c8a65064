"""The turns of one speaker, with values that several signals share computed once.

Counts of characters and turns use the whole text. Everything else uses at most the first ``HEAD``
and the last ``TAIL`` characters, so that a megabyte costs no more than a long answer does: 99% of
the answers of the LMSYS files are shorter than 7 thousand characters and lose nothing.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cached_property, wraps
from itertools import pairwise
from typing import TypeVar

import numpy as np

from arena.schema import Turns

HEAD, TAIL = 14_000, 6_000

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
"""Kana, Han and Hangul: written without (reliable) spaces, so each character is a word."""

WORD = re.compile(f"[{CJK}]|[^\\W{CJK}]+(?:'[^\\W{CJK}]+)*")
SPACED_WORD = re.compile(r"\w+(?:'\w+)*")
"""``WORD`` for a text without CJK characters."""
ANY_CJK = re.compile(f"[{CJK}]")
CJK_WORDS = re.compile(f"[{CJK}]{{3}}")
THREE_WORDS = re.compile(r"\w\S*+\s\W*+\w\S*+\s\W*+\w")
"""Matches three words at the start of a sentence; signs between spaces are not words."""
SENTENCE = re.compile(r"\b[^.!?。！？]+[.!?。！？]*")
# A pattern that begins with a literal or a character set is found by a scan in C, one that begins
# with a look-behind is not: this look-behind comes after the first digit.
NUMBER = re.compile(r"\d(?<![\w.]\d)\d{0,14}(?:,\d{3})*(?:\.\d{1,12})?(?![\d])")

ASCII = bytes(range(128))
SPACED = bytes(c if chr(c).isalnum() or chr(c) in "_'" else ord(" ") for c in ASCII)
SPACED += bytes(range(128, 256))
"""For ``bytes.translate``: every ASCII character that belongs to no word becomes a space."""
LOOSE = re.compile(r"'(?:(?<!\w')|(?!\w))")
"""An apostrophe that is not inside a word."""
MOST_SIGNS = 32
"""Most different signs outside ASCII that are replaced one by one."""

T = TypeVar("T")


def clip(text: str) -> str:
    """The text's first ``HEAD`` and last ``TAIL`` characters, on either side of a line break."""
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"


def tokenize(text: str) -> list[str]:
    """Words in lower case; a contraction is one word, a CJK character is one word."""
    return words_of(text.lower().replace("’", "'"))


def words_of(lower: str) -> list[str]:
    """Words of a text in lower case with plain apostrophes.

    They are the matches of ``WORD``, computed in half the time by turning signs into spaces.
    """
    data = encode(lower)
    spaced = decode(data.translate(SPACED))
    if not lower.isascii():
        others = set(outside_ascii(data))
        signs = [c for c in others if not c.isalnum()]
        if ANY_CJK.search("".join(others)):
            return WORD.findall(lower)
        if len(signs) > MOST_SIGNS:
            return SPACED_WORD.findall(lower)
        for sign in signs:
            spaced = spaced.replace(sign, " ")
    if "'" in spaced:
        spaced = LOOSE.sub(" ", spaced)
    return spaced.split()


def encode(text: str) -> bytes:
    """UTF-8 that also encodes lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    """The inverse of :func:`encode`."""
    return data.decode("utf-8", "surrogatepass")


def codes(text: str) -> np.ndarray:
    """Code points of a text, uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def outside_ascii(data: bytes) -> str:
    """The characters outside ASCII of an encoded text, in order."""
    return decode(data.translate(None, ASCII))


class Text:
    """The turns of one speaker; a ``null`` turn counts as empty."""

    def __init__(self, turns: Turns) -> None:
        self.turns = [turn or "" for turn in turns]
        self.nulls = sum(turn is None for turn in turns)
        self.full = "\n".join(self.turns)
        self.text = clip(self.full)
        self.cache: dict[Callable[[Text], object], object] = {}

    @property
    def final(self) -> Text:
        """The last turn alone."""
        # A text that refers to itself would be freed only by the cyclic garbage collector.
        return self if len(self.turns) == 1 else self._last

    @cached_property
    def _last(self) -> Text:
        return Text(self.turns[-1:])

    @cached_property
    def lined(self) -> str:
        """The clipped text after a line break, with which patterns of a line's start begin.

        A pattern that begins with a literal is searched by a scan in C, one that begins with ``^``
        is tried at every character.
        """
        return f"\n{self.text}"

    @cached_property
    def lower(self) -> str:
        """The clipped text in lower case, with plain apostrophes."""
        return self.text.lower().replace("’", "'")

    @cached_property
    def words(self) -> list[str]:
        """Words of the clipped text, see :func:`tokenize`."""
        return words_of(self.lower)

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each word occurs."""
        return Counter(self.words)

    @cached_property
    def spoken(self) -> str:
        """Words joined by single spaces, with a space at both ends, for looking up phrases."""
        return f" {' '.join(self.words)} "

    @cached_property
    def apart(self) -> str:
        """Like ``spoken``, with two spaces: a phrase shares no space with its own repetition."""
        return self.spoken.replace(" ", "  ")

    @cached_property
    def phrases(self) -> dict[Lexicon, list[str]]:
        """The phrases of each lexicon that occur in the text, as they stand in ``spoken``."""
        matches: dict[Lexicon, list[str]] = defaultdict(list)
        for word in VOCABULARY.keys() & self.counts.keys():
            for lexicon, phrase in VOCABULARY[word]:
                matches[lexicon].append(phrase)
        for pair in set(filter(PAIRS.__contains__, pairwise(self.words))):
            for lexicon, phrase in PAIRS[pair]:
                if phrase in self.spoken:
                    matches[lexicon].append(phrase)
        return matches

    @cached_property
    def sentences(self) -> list[str]:
        """Sentences of at least three words; textstat ignores shorter ones."""
        sentences = SENTENCE.findall(self.text)
        return [s for s in sentences if THREE_WORDS.match(s) or CJK_WORDS.search(s)]

    @cached_property
    def lines(self) -> list[str]:
        """Stripped lines that are not empty."""
        return [line for line in map(str.strip, self.text.split("\n")) if line]

    @cached_property
    def data(self) -> bytes:
        """The clipped text in UTF-8."""
        return encode(self.text)

    @cached_property
    def foreign(self) -> str:
        """The characters outside ASCII of the clipped text, in order."""
        return outside_ascii(self.data)

    @cached_property
    def ascii_counts(self) -> list[int]:
        """How often each of the 128 ASCII characters occurs."""
        letters = np.frombuffer(self.data, dtype=np.uint8)
        counts: list[int] = np.bincount(letters, minlength=128)[:128].tolist()
        return counts

    @cached_property
    def numbers(self) -> list[float]:
        """Numbers written in digits, in order."""
        return [float(n.replace(",", "")) for n in NUMBER.findall(self.text)]

    def count(self, characters: str) -> int:
        """How often any of these ASCII characters occurs."""
        return sum(map(self.ascii_counts.__getitem__, characters.encode("ascii")))


def once(function: Callable[[Text], T]) -> Callable[[Text], T]:
    """Compute ``function`` once per text: several signals of a family share its value."""

    @wraps(function)
    def remembered(text: Text) -> T:
        try:
            return text.cache[function]  # type: ignore[return-value]
        except KeyError:
            value = text.cache[function] = function(text)
            return value

    return remembered


class Lexicon:
    """Phrases that are looked up as whole words, regardless of punctuation between the words.

    A family creates its lexicons at import, before any text is read (``Text.phrases``).
    """

    def __init__(self, phrases: str) -> None:
        """``phrases`` are separated by ``|``."""
        for phrase in phrases.split("|"):
            words = tokenize(phrase)
            entry = self, f" {' '.join(words)} "
            if len(words) == 1:
                VOCABULARY.setdefault(words[0], []).append(entry)
            else:
                longest = max(pairwise(words), key=lambda pair: len("".join(pair)))
                PAIRS.setdefault(longest, []).append(entry)

    def matches(self, text: Text) -> list[str]:
        """The phrases that occur in the text, each once, with the spaces around them."""
        return text.phrases.get(self, [])

    def count(self, text: Text) -> int:
        """Number of occurrences of all phrases in the text."""
        if self not in text.phrases:
            return 0
        total = 0
        for phrase in self.matches(text):
            word = phrase[1:-1]
            if " " in word:
                total += text.apart.count(phrase.replace(" ", "  ")[1:-1])
            else:
                total += text.counts[word]
        return total

    def first(self, text: Text) -> int:
        """Number of words before the first phrase; all words if none occurs."""
        positions = [text.spoken.find(phrase) for phrase in self.matches(text)]
        return text.spoken.count(" ", 0, min(positions)) if positions else len(text.words)

    def share(self, text: Text) -> float:
        """Occurrences per word."""
        return self.count(text) / len(text.words) if self in text.phrases else 0.0


VOCABULARY: dict[str, list[tuple[Lexicon, str]]] = {}
"""Phrases of a single word, by that word."""

PAIRS: dict[tuple[str, str], list[tuple[Lexicon, str]]] = {}
"""The other phrases by their two longest successive words; a phrase is searched only in texts where
these two follow each other."""
