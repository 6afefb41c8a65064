"""Battles as one sequence each: prompt, answer A and answer B side by side, in both orders.

The sequence is ``embeddings.prompts.chat_template.comparison_template``. Its last token is the last
of the template's ``closing``, which opens the model's turn: there the model would begin its
verdict. It is the same token for every battle, never padding, an end-of-sequence token or part of a
text. The head of ``embeddings.judge.model`` reads its state, and the mean state of each answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from arena.schema import Turns
from embeddings.prompts.chat_template import comparison_template, encoder_of
from embeddings.prompts.truncation import Packed, Packer


@dataclass(frozen=True)
class PackedPair:
    """Tokens of one battle in one order.

    Attributes:
        key: content address, 32 bytes: the SHA-256 of the two arrays.
        ids: int32 (n,).
        owner: int8 (n,): -1 template and ellipsis, 0 prompt, 1 the first answer, 2 the second. Each
            answer has a token at least: an empty one the last before its place.
    """

    key: bytes
    ids: np.ndarray
    owner: np.ndarray

    @classmethod
    def of(cls, packed: Packed) -> PackedPair:
        """The sequence of what was packed, addressed."""
        owner = packed.owner.copy()
        for answer, start in enumerate(packed.start):
            if not len(packed.content(answer)):
                owner[start - 1] = 1 + answer
        key = hashlib.sha256(packed.ids.tobytes() + owner.tobytes()).digest()
        return cls(key, packed.ids, owner)

    @property
    def length(self) -> int:
        """Tokens of the sequence."""
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """Tokens that the model reads for it."""
        return len(self.ids)


@dataclass(frozen=True)
class SomeOrders:
    """Sequences of battles, of one order or of several.

    Attributes:
        owners: id of each sequence's battle, m.
        sequences: m.
    """

    owners: list[str]
    sequences: list[PackedPair]


@dataclass(frozen=True)
class Pairs:
    """Packed battles.

    Attributes:
        ids: battle ids, n.
        forward: each battle with A before B, n.
        swapped: each battle with B before A, n.
        cut: tokens left out of each battle's ``forward``, int64 (n,).
    """

    ids: list[str]
    forward: list[PackedPair]
    swapped: list[PackedPair]
    cut: np.ndarray

    def take(self, rows: np.ndarray) -> Pairs:
        """The battles at positions ``rows`` (integers)."""
        return Pairs(
            [self.ids[i] for i in rows],
            [self.forward[i] for i in rows],
            [self.swapped[i] for i in rows],
            self.cut[rows],
        )

    @property
    def tokens(self) -> int:
        """Tokens of all battles in both orders."""
        return sum(len(s.ids) for s in self.sequences)

    @property
    def sequences(self) -> list[PackedPair]:
        """All of A before B, then all of B before A; 2n."""
        return [*self.forward, *self.swapped]

    @property
    def owners(self) -> list[str]:
        """Id of the battle of each of ``sequences``."""
        return [*self.ids, *self.ids]


def distinct(*tables: Pairs | SomeOrders) -> list[PackedPair]:
    """Every sequence of these battles, each once, longest first, then by key."""
    by_key = {s.key: s for table in tables for s in table.sequences}
    return sorted(by_key.values(), key=lambda s: (-len(s.ids), s.key))


def pack_pairs(battles: pd.DataFrame, tokenizer: Any, max_tokens: int) -> Pairs:
    """Pack battles into their comparison, in both orders.

    Args:
        battles: rows of the canonical table with an empty ``reason``.
        tokenizer: the backbone's.
        max_tokens: most tokens of a sequence, template included.

    Raises:
        UserError: max_tokens is too small for the template.
    """
    encoder = encoder_of(tokenizer)
    return pack_with(Packer(encoder, comparison_template(encoder)), battles, max_tokens)


def pack_with(packer: Packer, battles: pd.DataFrame, max_tokens: int) -> Pairs:
    """Pack battles into a template of two answers, in both orders.

    Args:
        packer: of that template.
        battles: rows of the canonical table with an empty ``reason``.
        max_tokens: most tokens of a sequence, template included.

    Raises:
        UserError: max_tokens is too small for the template.
    """
    cut: list[int] = []

    def pack(prompt: Turns, answers: tuple[Turns, Turns]) -> tuple[PackedPair, int]:
        packed = packer.pack(prompt, answers, max_tokens)
        return PackedPair.of(packed), packed.prompt_cut + packed.answer_cut

    forward, swapped = [], []
    rows: Iterable[tuple[Turns, Turns, Turns]] = zip(
        battles["prompt"], battles["response_a"], battles["response_b"], strict=True
    )
    for prompt, a, b in rows:
        sequence, lost = pack(prompt, (a, b))
        forward.append(sequence)
        cut.append(lost)
        swapped.append(pack(prompt, (b, a))[0])
    return Pairs(battles["id"].tolist(), forward, swapped, np.array(cut, dtype=np.int64))
