"""Answers as token sequences, each after its conversation, addressed by their content."""

from __future__ import annotations

import hashlib
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import numpy as np
import pandas as pd

from arena.schema import Turns
from embeddings.backbone.config import BackboneConfig
from embeddings.prompts.chat_template import Encoder, conversation_template
from embeddings.prompts.truncation import PROMPT, Packer


@dataclass(frozen=True)
class PackedAnswer:
    """One answer to read.

    Attributes:
        key: content address, 32 bytes.
        ids: the conversation that ends with the answer; int32 (n,).
        content: positions of the answer's content tokens, all turns; int64.
        asked: positions of the prompt's tokens, all turns; int64.
        last: position whose state is pooled as ``last``.
        bare: the last turn's first tokens after an empty prompt; int32, empty where there are none.
        bare_length: how many of ``bare``'s tokens, at its end, are the answer's.
        bare_start: where these tokens begin in ``ids``.
    """

    key: bytes
    ids: np.ndarray
    content: np.ndarray
    asked: np.ndarray
    last: int
    bare: np.ndarray
    bare_length: int
    bare_start: int

    @property
    def longest(self) -> int:
        """Tokens of the longer of its sequences."""
        return max(len(self.ids), len(self.bare))

    def tokens(self, opening: int) -> int:
        """Tokens that the model reads for this item, without an opening of so many, read before."""
        return sum(len(x) - opening for x in (self.ids, self.bare) if len(x))


@dataclass(frozen=True)
class PackedBattles:
    """The answers of a window of battles, packed.

    Attributes:
        ids: battle ids, n.
        key_a, key_b: content address of each battle's answers, 32 bytes, n each.
        items: the distinct answers (with their conversations), longest first, then by key.
        end_token: the token that ends a turn.
        opening: tokens with which every sequence begins, int32; they are read once for all.
        turns: rounds of each battle, int (n,).
        cut: tokens left out of each sequence, prompt and answer; int (2n, 2).
    """

    ids: list[str]
    key_a: list[bytes]
    key_b: list[bytes]
    items: list[PackedAnswer]
    end_token: int
    opening: np.ndarray
    turns: np.ndarray
    cut: np.ndarray


def pack_battles(
    battles: pd.DataFrame,
    config: BackboneConfig,
    tokenizer: Any,
    settings: str,
    stop: Event | None = None,
) -> PackedBattles:
    """Pack every answer of battles.

    Args:
        battles: rows of the canonical table with an empty ``reason``.
        config: the backbone.
        tokenizer: the backbone's.
        settings: keys are hashes of it and the tokens.
        stop: ends the packing once another thread sets it.

    Raises:
        UserError: max_tokens is too small.
        CancelledError: it was stopped.
    """
    encoder = Encoder(tokenizer)
    template = conversation_template(encoder)
    special = [i for i in template.closing if i in tokenizer.all_special_ids]
    end_token = [*special, *template.closing, 0][0]
    # Attention looks left: what follows the answer would be read for nothing.
    packer = Packer(encoder, replace(template, closing=()))
    before = np.array(template.opening + template.before_answers[0], dtype=np.int32)
    items: dict[bytes, PackedAnswer] = {}
    cut: list[tuple[int, int]] = []

    def add(prompt: Turns, answer: Turns) -> bytes:
        if stop is not None and stop.is_set():
            raise CancelledError
        packed = packer.pack(prompt, [answer], config.max_tokens)
        content, asked = packed.content(0), np.flatnonzero(packed.owner == PROMPT)
        start = packed.start[0]
        # The last turn's tokens up to an ellipsis, if there is one.
        run = content[content >= start]
        run = run[run - start == np.arange(len(run))][: config.unconditional_tokens]
        bare = np.concatenate([before, packed.ids[run]]) if len(run) else before[:0]
        h = hashlib.sha256(f"{settings} {packed.last[0]} {start} {len(run)};".encode())
        for array in (packed.ids, content.astype(np.int32), asked.astype(np.int32), bare):
            h.update(f"{len(array)};".encode() + array.tobytes())
        key = h.digest()
        items[key] = PackedAnswer(
            key, packed.ids, content, asked, packed.last[0], bare, len(run), start
        )
        cut.append((packed.prompt_cut, packed.answer_cut))
        return key

    keys = [
        (add(prompt, a), add(prompt, b))
        for prompt, a, b in zip(
            battles["prompt"], battles["response_a"], battles["response_b"], strict=True
        )
    ]
    return PackedBattles(
        ids=battles["id"].tolist(),
        key_a=[a for a, _ in keys],
        key_b=[b for _, b in keys],
        items=sorted(items.values(), key=lambda item: (-len(item.ids), item.key)),
        end_token=end_token,
        opening=np.array(template.opening, dtype=np.int32),
        turns=np.array([len(turns) for turns in battles["prompt"]], dtype=np.int64),
        cut=np.array(cut, dtype=np.int64).reshape(-1, 2),
    )
