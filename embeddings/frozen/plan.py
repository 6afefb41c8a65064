"""What an extraction will read, counted before any of it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from arena.schema import digest
from common.errors import UserError
from embeddings.backbone.config import BackboneConfig, load_config
from embeddings.backbone.load import load_tokenizer
from embeddings.frozen.chunks import in_chunks
from embeddings.prompts.answers import PackedAnswer, PackedBattles, pack_battles

SAMPLES = 64
"""Answers of each length that a plan keeps."""

EDGES = (0, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


@dataclass
class ExtractionPlan:
    """What an extraction of successive chunks of battles will read.

    Attributes:
        note: what a person should know about the counts; may be empty.
        battles: how many.
        turns: battles by their rounds.
        truncated: sequences that leave tokens out, of two a battle.
        cut: tokens left out of prompts and of answers, int64 (2,).
        seen: the distinct answers, by the first 16 bytes of their keys.
        lengths: how many of these have as many tokens as each of ``EDGES`` or more, and fewer than
            the next; int64 (len(EDGES),).
        tokens_by_length: tokens read of these; int64 (len(EDGES),).
        samples: some of these answers, by position in ``EDGES``: what an estimate may time.
        end_token, shared_prefix: as ``PackedBattles`` has them.
        tokens: tokens read of them, with the prompt and without it; int64 (2,).
        longest: tokens of the longest.
    """

    note: str = ""
    battles: int = 0
    turns: Counter[int] = field(default_factory=Counter)
    truncated: int = 0
    cut: np.ndarray = field(default_factory=lambda: np.zeros(2, np.int64))
    seen: set[bytes] = field(default_factory=set, repr=False)
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(len(EDGES), np.int64))
    tokens_by_length: np.ndarray = field(default_factory=lambda: np.zeros(len(EDGES), np.int64))
    samples: dict[int, list[PackedAnswer]] = field(default_factory=dict, repr=False)
    end_token: int = 0
    shared_prefix: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    tokens: np.ndarray = field(default_factory=lambda: np.zeros(2, np.int64))
    longest: int = 0

    def add(self, chunk: PackedBattles) -> None:
        """Count the next chunk; an answer that an earlier one has is not read again."""
        self.battles += len(chunk.ids)
        self.turns.update(chunk.turns.tolist())
        self.truncated += int((chunk.cut.sum(axis=1) > 0).sum())
        self.cut += chunk.cut.sum(axis=0)
        new = [answer for answer in chunk.answers if answer.key[:16] not in self.seen]
        self.seen.update(answer.key[:16] for answer in new)
        lengths = np.array([len(answer.ids) for answer in new], dtype=np.int64)
        self.lengths += np.histogram(lengths, bins=[*EDGES, np.inf])[0]
        positions = np.searchsorted(EDGES, lengths, side="right") - 1
        for answer, position in zip(new, positions.tolist(), strict=True):
            self.tokens_by_length[position] += answer.tokens
            samples = self.samples.setdefault(position, [])
            if len(samples) < SAMPLES:
                samples.append(answer)
        self.end_token, self.shared_prefix = chunk.end_token, chunk.shared_prefix
        self.longest = int(lengths.max(initial=self.longest))
        conditional = lengths.sum() - len(chunk.shared_prefix) * len(new)
        self.tokens += (conditional, sum(answer.tokens for answer in new) - conditional)

    def lines(self) -> list[str]:
        """The counts for people."""
        conditional, unconditional = self.tokens.tolist()
        bars = [
            f"{low}-{high - 1}: {n:,}"
            for low, high, n in zip(EDGES, EDGES[1:], self.lengths, strict=False)
            if n
        ] + ([f"{EDGES[-1]} and more: {self.lengths[-1]:,}"] if self.lengths[-1] else [])
        n = 2 * self.battles
        return [
            *([self.note] if self.note else []),
            f"  battles {self.battles:,}, answers {n:,}, distinct in their conversation "
            f"{len(self.seen):,}",
            "  turns: " + ", ".join(f"{t}: {c:,}" for t, c in sorted(self.turns.items())),
            "  tokens a sequence (template included): " + ", ".join(bars),
            f"  truncated {self.truncated:,} of {n:,} ({self.truncated / max(n, 1):.1%}), "
            f"tokens cut: prompts {self.cut[0]:,}, answers {self.cut[1]:,}",
            f"  tokens to read {conditional + unconditional:,}: {conditional:,} with the prompt, "
            f"{unconditional:,} without",
        ]


def plan(parts: Iterable[pd.DataFrame], config: BackboneConfig) -> ExtractionPlan:
    """Pack battles as an extraction would, without the model's weights, and count.

    Args:
        parts: successive rows of the canonical table with an empty ``reason``.
        config: the backbone.

    Raises:
        UserError: no tokenizer can be had, or max_tokens is too small.
    """
    tokenizer, note = counting_tokenizer(config)
    counts = ExtractionPlan(note)
    for battles in in_chunks(parts):
        counts.add(pack_battles(battles, config, tokenizer, ""))
    return counts


def count_answers(parts: Iterable[pd.DataFrame]) -> int:
    """How many distinct answers battles have, each with its conversation.

    Args:
        parts: successive rows of the canonical table with an empty ``reason``.
    """
    return len(
        {
            digest([prompt, answer])
            for part in parts
            for side in ("response_a", "response_b")
            for prompt, answer in zip(part["prompt"], part[side], strict=True)
        }
    )


def counting_tokenizer(config: BackboneConfig) -> tuple[Any, str]:
    """The tokenizer that counts for a plan, and what a person should know of it; may be empty.

    Where the backbone's own cannot be had (gated, offline), the embedded model's stands in.

    Raises:
        UserError: there is none to be had, or nothing could be estimated by its count.
    """
    try:
        return load_tokenizer(config), ""
    except UserError as error:
        if not config.parameters or config.source.startswith("package:"):
            raise
        stand_in = load_config("smollm2-135m")
        note = f"  counted with the tokenizer of {stand_in.name}: {error.message}"
        return load_tokenizer(stand_in), note
