"""Position: where the answers part. What they share from the start cannot decide the vote."""

from __future__ import annotations

import math

from features.signals import pair_signal
from features.text import Text


def shared_prefix(a: str, b: str) -> int:
    """Characters that both texts begin with."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    return low


def shared_suffix(a: str, b: str) -> int:
    """Characters that both texts end with."""
    return shared_prefix(a[::-1], b[::-1])


@pair_signal("sym")
def identical(a: Text, b: Text, prompt: Text) -> float:
    """1 where both answers are the same text."""
    return float(a.turns == b.turns)


@pair_signal("sym")
def same_words(a: Text, b: Text, prompt: Text) -> float:
    """1 where both answers are the same but for case, blanks and punctuation."""
    return float(a.words == b.words)


@pair_signal("sym")
def prefix(a: Text, b: Text, prompt: Text) -> float:
    """Log of 1 + characters that both begin with."""
    return math.log1p(shared_prefix(a.full, b.full))


@pair_signal("sym")
def prefix_share(a: Text, b: Text, prompt: Text) -> float:
    """The common beginning as a share of the shorter answer."""
    return shared_prefix(a.full, b.full) / max(1, min(len(a.full), len(b.full)))


@pair_signal("sym")
def suffix(a: Text, b: Text, prompt: Text) -> float:
    """Log of 1 + characters that both end with."""
    return math.log1p(shared_suffix(a.text, b.text))


@pair_signal("sym")
def suffix_share(a: Text, b: Text, prompt: Text) -> float:
    """The common end as a share of the shorter answer."""
    return shared_suffix(a.text, b.text) / max(1, min(len(a.text), len(b.text)))


@pair_signal("sym")
def first_different_turn(a: Text, b: Text, prompt: Text) -> float:
    """0-based turn in which the answers part; the number of turns where they never do."""
    pairs = list(zip(a.turns, b.turns, strict=False))
    return float(next((i for i, (x, y) in enumerate(pairs) if x != y), len(pairs)))


@pair_signal("sym")
def identical_turns(a: Text, b: Text, prompt: Text) -> float:
    """Share of the turns in which both answers are the same."""
    pairs = list(zip(a.turns, b.turns, strict=False))
    return sum(x == y for x, y in pairs) / max(1, len(pairs))


@pair_signal("sym")
def same_first_word(a: Text, b: Text, prompt: Text) -> float:
    """1 where both begin with the same word."""
    return float(bool(a.words) and a.words[:1] == b.words[:1])
