"""Answers as token sequences, each after its conversation, with their content addresses."""

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
from embeddings.prompts.chat_template import conversation_template, encoder_of
from embeddings.prompts.truncation import PROMPT, Packer


@dataclass(frozen=True)
class PackedAnswer:
    """One answer to read, as tokens.

    Attributes:
        key: content address, 32 bytes.
        ids: the conversation that ends with the answer; int32 (n,).
        content: positions of the answer's content tokens, all turns; int64.
        prompt: positions of the prompt's tokens, all turns; int64.
        last: position whose state is pooled as ``last``.
        unconditional: the last turn's first tokens after an empty prompt; int32, empty where there
            are none.
        unconditional_length: how many of these tokens, at its end, are the answer's.
        unconditional_start: where these tokens begin in ``ids``.
        tokens: that the model reads for it, with the prompt and without; the prefix that all
            sequences share is read once for all, and not counted.
    """

    key: bytes
    ids: np.ndarray
    content: np.ndarray
    prompt: np.ndarray
    last: int
    unconditional: np.ndarray
    unconditional_length: int
    unconditional_start: int
    tokens: int

    @property
    def length(self) -> int:
        """Tokens of the longer of its sequences."""
        return max(len(self.ids), len(self.unconditional))


@dataclass(frozen=True)
class PackedBattles:
    """The answers of a chunk of battles, packed.

    Attributes:
        ids: battle ids, n.
        key_a, key_b: content address of each battle's answers, 32 bytes, n each.
        answers: the distinct answers (with their conversations), longest first, then by key.
        end_token: the token that ends a turn.
        shared_prefix: tokens with which every sequence begins, int32; they are read once for all.
        turns: rounds of each battle, int (n,).
        cut: tokens left out of each sequence, prompt and answer; int (2n, 2).
    """

    ids: list[str]
    key_a: list[bytes]
    key_b: list[bytes]
    answers: list[PackedAnswer]
    end_token: int
    shared_prefix: np.ndarray
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
        stop: packing ends once another thread sets it.

    Raises:
        UserError: max_tokens is too small.
        CancelledError: it was stopped.
    """
    encoder = encoder_of(tokenizer)
    template = conversation_template(encoder)
    special = [i for i in template.closing if i in tokenizer.all_special_ids]
    end_token = [*special, *template.closing, 0][0]
    # Attention looks left: what follows the answer would be read for nothing.
    packer = Packer(encoder, replace(template, closing=()))
    shared_prefix = np.array(template.opening, dtype=np.int32)
    empty_prompt = np.array(template.opening + template.before_answers[0], dtype=np.int32)
    answers: dict[bytes, PackedAnswer] = {}
    cut: list[tuple[int, int]] = []

    def add(prompt: Turns, answer: Turns) -> bytes:
        if stop is not None and stop.is_set():
            raise CancelledError
        packed = packer.pack(prompt, [answer], config.max_tokens)
        content, prompt_positions = packed.content(0), np.flatnonzero(packed.owner == PROMPT)
        start = packed.start[0]
        # The last turn's tokens up to an ellipsis, if there is one.
        run = content[content >= start]
        run = run[run - start == np.arange(len(run))][: config.unconditional_tokens]
        unconditional = empty_prompt[:0]
        if len(run):
            unconditional = np.concatenate([empty_prompt, packed.ids[run]])
        h = hashlib.sha256(f"{settings} {packed.last[0]} {start} {len(run)};".encode())
        positions = (content.astype(np.int32), prompt_positions.astype(np.int32))
        for array in (packed.ids, *positions, unconditional):
            h.update(f"{len(array)};".encode() + array.tobytes())
        key = h.digest()
        passes = [sequence for sequence in (packed.ids, unconditional) if len(sequence)]
        answers[key] = PackedAnswer(
            key,
            packed.ids,
            content,
            prompt_positions,
            packed.last[0],
            unconditional,
            len(run),
            start,
            sum(len(sequence) - len(shared_prefix) for sequence in passes),
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
        answers=sorted(answers.values(), key=lambda answer: (-len(answer.ids), answer.key)),
        end_token=end_token,
        shared_prefix=shared_prefix,
        turns=np.array([len(turns) for turns in battles["prompt"]], dtype=np.int64),
        cut=np.array(cut, dtype=np.int64).reshape(-1, 2),
    )
