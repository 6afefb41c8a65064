"""Overlap: of each answer with the prompt (on topic?), and between the answers (a tie?)."""

from __future__ import annotations

import math
from collections.abc import Set

import numpy as np

from features.diction import STOPWORDS, telling
from features.signals import answer_signal, pair_signal
from features.text import Text, codes, once, tokenize
from features.verbosity import relative

BUCKETS = 4096
"""Character trigrams are counted in so many hash buckets, a power of 2: collisions do no harm."""

OPENING = 50
"""Words at the start of an answer, about what a reader sees at a glance."""


@once
def content(text: Text) -> frozenset[str]:
    """Words that carry the meaning: no function words, three letters or a CJK character."""
    return meaningful(telling(text))


def meaningful(words: Set[str]) -> frozenset[str]:
    """The words that carry the meaning, among words that are no function words."""
    # A set of a list is faster than a set of a generator.
    return frozenset(
        [word for word in words if len(word) > 2 or not word.isascii() or word.isdigit()]
    )


@once
def opening(text: Text) -> frozenset[str]:
    """The words that the text begins with."""
    return frozenset(text.words[:OPENING])


@once
def trigrams(text: Text) -> np.ndarray:
    """Square roots of the character trigrams' counts, as a unit vector, float64, (BUCKETS,)."""
    points = codes(text.spoken)
    # Multipliers of a polynomial hash; any odd primes do.
    hashed = points[:-2] * 961 + points[1:-1] * 31 + points[2:]
    counts = np.sqrt(np.bincount(hashed & (BUCKETS - 1), minlength=BUCKETS))
    vector: np.ndarray = counts / max(1e-9, math.sqrt(float(counts @ counts)))
    return vector


def jaccard(x: Set[str], y: Set[str]) -> float:
    """|x and y| / |x or y|; 1 for two empty sets."""
    both = len(x & y)
    return both / (len(x) + len(y) - both) if x or y else 1.0


def shared(part: Set[str], whole: Set[str]) -> float:
    """Share of ``part`` that is in ``whole``; NaN where ``part`` is empty."""
    return len(part & whole) / len(part) if part else math.nan


@answer_signal
def prompt_words(answer: Text, prompt: Text) -> float:
    """Jaccard similarity of the content words of answer and prompt."""
    return jaccard(content(answer), content(prompt))


@answer_signal
def coverage(answer: Text, prompt: Text) -> float:
    """Share of the prompt's content words that the answer mentions; NaN where it has none."""
    return shared(content(prompt), content(answer))


@answer_signal
def last_coverage(answer: Text, prompt: Text) -> float:
    """Share of the last prompt's content words that the last answer mentions."""
    return shared(content(prompt.final), content(answer.final))


@answer_signal
def from_prompt(answer: Text, prompt: Text) -> float:
    """Share of the answer's content words that the prompt holds; NaN where it has none."""
    return shared(content(answer), content(prompt))


@answer_signal
def prompt_trigrams(answer: Text, prompt: Text) -> float:
    """Cosine of the character trigrams of answer and prompt."""
    return float(trigrams(answer) @ trigrams(prompt))


@answer_signal
def first_sentence(answer: Text, prompt: Text) -> float:
    """Share of the first sentence's content words that the prompt holds."""
    if not answer.sentences:
        return shared(content(answer), content(prompt))
    words = set(tokenize(answer.sentences[0][:500]))
    return shared(meaningful(words - STOPWORDS), content(prompt))


@answer_signal
def prompt_numbers(answer: Text, prompt: Text) -> float:
    """Share of the prompt's numbers that the answer takes up; NaN where it has none."""
    wanted = set(prompt.numbers)
    return len(wanted & set(answer.numbers)) / len(wanted) if wanted else math.nan


@answer_signal
def novel_words(answer: Text, prompt: Text) -> float:
    """Log of 1 + number of different content words of the answer that the prompt lacks."""
    words = content(answer)
    return math.log1p(len(words) - len(words & content(prompt)))


@answer_signal
def opening_coverage(answer: Text, prompt: Text) -> float:
    """Share of the last prompt's content words among the answer's first ``OPENING`` words."""
    return shared(content(prompt.final), opening(answer.final))


@pair_signal("sym")
def words(a: Text, b: Text, prompt: Text) -> float:
    """Jaccard similarity of all words of the answers."""
    return jaccard(a.counts.keys(), b.counts.keys())


@pair_signal("sym")
def content_words(a: Text, b: Text, prompt: Text) -> float:
    """Jaccard similarity of the content words of the answers."""
    return jaccard(content(a), content(b))


@pair_signal("sym")
def new_content(a: Text, b: Text, prompt: Text) -> float:
    """Jaccard similarity of the content words that the prompt does not hold."""
    known = content(prompt)
    return jaccard(content(a) - known, content(b) - known)


@pair_signal("sym")
def contained(a: Text, b: Text, prompt: Text) -> float:
    """Shared content words as a share of the smaller set: does one answer hold the other?"""
    x, y = content(a), content(b)
    return len(x & y) / max(1, min(len(x), len(y)))


@pair_signal("anti")
def extra_content(a: Text, b: Text, prompt: Text) -> float:
    """Content words that only A has against those that only B has, (a - b) / (a + b)."""
    x, y = content(a), content(b)
    both = len(x & y)
    return relative(len(x) - both, len(y) - both)


@pair_signal("anti")
def extra_coverage(a: Text, b: Text, prompt: Text) -> float:
    """The prompt's content words that only A takes up against those that only B does."""
    known = content(prompt.final)
    x, y = content(a) & known, content(b) & known
    return relative(len(x - y), len(y - x))


@pair_signal("anti")
def extra_opening(a: Text, b: Text, prompt: Text) -> float:
    """Content words that only A has against those that only B has, among the first words."""
    x, y = (opening(t.final) & content(t) for t in (a, b))
    return relative(len(x - y), len(y - x))


@pair_signal("anti")
def extra_numbers(a: Text, b: Text, prompt: Text) -> float:
    """Numbers that only A has against those that only B has."""
    x, y = set(a.numbers), set(b.numbers)
    return relative(len(x - y), len(y - x))


@pair_signal("sym")
def character_trigrams(a: Text, b: Text, prompt: Text) -> float:
    """Cosine of the answers' character trigrams, whose counts are damped by a square root."""
    # The order of a dot product's sum is the same either way, so this is exact under a swap.
    return float(trigrams(a) @ trigrams(b))


@pair_signal("sym")
def first_sentences(a: Text, b: Text, prompt: Text) -> float:
    """Jaccard similarity of the words of the first lines."""
    x, y = (set(t.lines[0][:300].lower().split()) if t.lines else set() for t in (a, b))
    return jaccard(x, y)


@pair_signal("sym")
def numbers(a: Text, b: Text, prompt: Text) -> float:
    """Jaccard similarity of the numbers; NaN where neither answer has one."""
    x, y = set(map(str, a.numbers)), set(map(str, b.numbers))
    return jaccard(x, y) if x or y else math.nan


@pair_signal("sym")
def final_number(a: Text, b: Text, prompt: Text) -> float:
    """1 where both answers end on the same number: the same result; NaN where one has none."""
    if not a.numbers or not b.numbers:
        return math.nan
    return float(a.numbers[-1] == b.numbers[-1])


@pair_signal("sym")
def last_lines(a: Text, b: Text, prompt: Text) -> float:
    """Jaccard similarity of the words of the last lines."""
    x, y = (set(t.lines[-1][-300:].lower().split()) if t.lines else set() for t in (a, b))
    return jaccard(x, y)
