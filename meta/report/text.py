"""Untrusted texts, made visible and writable. Escaping is the template's job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 3_000
"""Characters of a prompt or an answer that the report shows."""

_VISIBLE = {
    # Control characters become their pictures, but for tab and line feed.
    **{c: 0x2400 + c for c in range(32) if chr(c) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    # Lone surrogates cannot be written, and directional overrides would turn the page's own words.
    **dict.fromkeys(range(0xD800, 0xE000), 0xFFFD),
    **dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD),
    **dict.fromkeys([0xFFFE, 0xFFFF], 0xFFFD),
}


def clean(text: str) -> str:
    """The text with invisible characters made visible, and without what UTF-8 cannot encode."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)


@dataclass(frozen=True)
class Shown:
    """The turns of one speaker as the report shows them."""

    turns: list[str | None]
    """Clean; ``None`` is a JSON ``null``."""
    cut: int
    """Characters left out at the end."""


def shown(turns: Sequence[str | None], longest: int = LONGEST) -> Shown:
    """The first ``longest`` characters of the turns together."""
    visible: list[str | None] = []
    left = longest
    for turn in turns:
        if left <= 0:
            break
        visible.append(None if turn is None else clean(turn[:left]))
        left -= len(turn or "")
    return Shown(visible, max(0, sum(len(turn or "") for turn in turns) - longest))
