"""What an extraction will read, and what it will cost, before any of it is read."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

import numpy as np
import pandas as pd
import torch

from arena.battle import Turns
from arena.errors import UserError
from arena.files import expanded
from embeddings.backbone import load_tokenizer, safetensors_header
from embeddings.config import BackboneConfig, load_config
from embeddings.engine import TORCH
from embeddings.packing import PROMPT, Packer
from embeddings.scoring import CHUNK, GPU_CHUNK, Item
from embeddings.template import Encoder, conversation_template
from embeddings.windows import windows

EDGES = (0, 64, 128, 256, 512, 1024, 2048, 4096, 8192)

BYTES_A_WEIGHT = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.1, "nf4": 0.6}
"""int8 and nf4 leave embeddings and norms in 16 bits and add scales."""

CPU_MFU = {"float32": 0.78, "bfloat16": 0.55, "float16": 0.55, "nf4": 0.45, "int8": 0.23}
"""Share of the GEMM speed in the compute dtype that extraction reached with SmolLM2-135M, one
sequence at a time, on 2 cores with AVX512-BF16 (measured for this project, not float16)."""

OPENVINO_MFU = 0.75
"""The same of OpenVINO, in bfloat16 and float32 (``benchmarks/extraction.py``)."""

A100_FLOPS = 312e12
"""Dense bf16 peak of an A100 (NVIDIA data sheet)."""

A100_MEMORY = 40e9

A100_MFU = {"float32": 0.03, "bfloat16": 0.4, "float16": 0.4, "nf4": 0.25, "int8": 0.2}
"""Assumed, not measured; float32 runs at 19.5 TFLOP/s there."""


@dataclass(frozen=True)
class Plan:
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
    items: list[Item]
    end_token: int
    opening: np.ndarray
    turns: np.ndarray
    cut: np.ndarray


@dataclass
class Counts:
    """What the plans of successive windows come to.

    Attributes:
        note: what a person should know about the counts; may be empty.
        battles: how many.
        turns: battles by their rounds.
        truncated: sequences that leave tokens out, of two a battle.
        cut: tokens left out of prompts and of answers, int64 (2,).
        seen: the distinct answers, by the first 16 bytes of their keys.
        lengths: how many of these have as many tokens as each of ``EDGES`` or more, and fewer than
            the next; int64 (len(EDGES),).
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
    tokens: np.ndarray = field(default_factory=lambda: np.zeros(2, np.int64))
    longest: int = 0

    def add(self, plan: Plan) -> None:
        """Count the next window; an answer that an earlier one has is not read again."""
        self.battles += len(plan.ids)
        self.turns.update(plan.turns.tolist())
        self.truncated += int((plan.cut.sum(axis=1) > 0).sum())
        self.cut += plan.cut.sum(axis=0)
        new = [item for item in plan.items if item.key[:16] not in self.seen]
        self.seen.update(item.key[:16] for item in new)
        lengths = np.array([len(item.ids) for item in new], dtype=np.int64)
        self.lengths += np.histogram(lengths, bins=[*EDGES, np.inf])[0]
        self.longest = int(lengths.max(initial=self.longest))
        opening = len(plan.opening)
        self.tokens += (
            lengths.sum() - opening * len(new),
            sum(len(item.bare) - opening for item in new if len(item.bare)),
        )

    def lines(self) -> list[str]:
        """The counts for people."""
        conditional, bare = self.tokens.tolist()
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
            f"  tokens to read {conditional + bare:,}: {conditional:,} with the prompt, "
            f"{bare:,} without",
        ]


def plan(parts: Iterable[pd.DataFrame], config: BackboneConfig) -> Counts:
    """Pack battles as an extraction would, without the model's weights, and count.

    Args:
        parts: successive rows of the canonical table with an empty ``reason``.
        config: the backbone.

    Raises:
        UserError: no tokenizer can be had, or max_tokens is too small.
    """
    tokenizer, note = counting_tokenizer(config)
    counts = Counts(note)
    for battles in windows(parts):
        counts.add(pack_battles(battles, config, tokenizer, ""))
    return counts


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
        note = f"  counted with the tokenizer of {stand_in.name}: {error}"
        return load_tokenizer(stand_in), note


def pack_battles(
    battles: pd.DataFrame,
    config: BackboneConfig,
    tokenizer: Any,
    settings: str,
    stop: Event | None = None,
) -> Plan:
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
    items: dict[bytes, Item] = {}
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
        items[key] = Item(key, packed.ids, content, asked, packed.last[0], bare, len(run), start)
        cut.append((packed.prompt_cut, packed.answer_cut))
        return key

    keys = [
        (add(prompt, a), add(prompt, b))
        for prompt, a, b in zip(
            battles["prompt"], battles["response_a"], battles["response_b"], strict=True
        )
    ]
    return Plan(
        ids=battles["id"].tolist(),
        key_a=[a for a, _ in keys],
        key_b=[b for _, b in keys],
        items=sorted(items.values(), key=lambda item: (-len(item.ids), item.key)),
        end_token=end_token,
        opening=np.array(template.opening, dtype=np.int32),
        turns=np.array([len(turns) for turns in battles["prompt"]], dtype=np.int64),
        cut=np.array(cut, dtype=np.int64).reshape(-1, 2),
    )


def estimate(counts: Counts, config: BackboneConfig, engine: str = TORCH) -> list[str]:
    """What an extraction will take, see ``estimate_reading``."""
    return estimate_reading(int(counts.tokens.sum()), counts.longest, config, engine)


def estimate_reading(
    tokens: int, longest: int, config: BackboneConfig, engine: str = TORCH
) -> list[str]:
    """Seconds and memory that reading will take, here and on an A100 40 GB, for people.

    Time is 2 x parameters x tokens floating-point operations (Kaplan et al. 2020, forward pass)
    over a share (MFU) of the device's matrix-product speed. Memory is parameters x bytes a weight,
    plus activations (24 vectors of the hidden size a token of the largest batch, in 16 bits, and
    three float32 copies of one chunk of logits).

    Args:
        tokens: to be read in all.
        longest: tokens of the longest sequence.
        config: the backbone.
        engine: what will run it on the CPU, ``torch`` or ``openvino``.
    """
    parameters = parameters_of(config)
    if not parameters:
        return ["  no estimate: `parameters` is not in the backbone's YAML"]
    kind = config.dtype if config.quantization == "none" else config.quantization
    operations = 2.0 * parameters * tokens
    weights = parameters * BYTES_A_WEIGHT[kind]
    # 12 d^2 a layer and some 30 layers: d is about sqrt(parameters / 400) in models of all sizes.
    hidden = (parameters / 400) ** 0.5
    logits = 3 * 256_000 * 4.0
    here = weights + longest * hidden * 24 * 2 + CHUNK * logits
    there = weights + config.batch_tokens * hidden * 24 * 2 + GPU_CHUNK * logits
    speed = gemm_speed(torch.float32 if kind == "float32" else torch.bfloat16)
    share = CPU_MFU[kind] if engine == TORCH else OPENVINO_MFU
    return [
        f"  {config.name}: {parameters / 1e9:.2f} G parameters, {kind}; "
        f"2 x parameters x tokens = {operations / 1e12:,.0f} TFLOP",
        f"  this machine's CPU: {duration(operations / (share * speed))} at "
        f"{share:.0%} of {speed / 1e9:,.0f} GFLOP/s (matrix products measured just now), "
        f"{here / 2**30:.1f} GiB",
        f"  A100 40 GB: {duration(operations / (A100_MFU[kind] * A100_FLOPS))} at "
        f"{A100_MFU[kind]:.0%} of 312 TFLOP/s (assumed, not measured), {on_cards(there, config)}",
    ]


def on_cards(needed: float, config: BackboneConfig, advice: str = "") -> str:
    """What a model needs of A100s, for people: two share the layers where its YAML spreads it.

    Args:
        needed: bytes in all.
        config: the backbone.
        advice: what to do where it does not fit.
    """
    cards = 2 if config.device_map == "auto" else 1
    each = f", some {needed / cards / 2**30:.1f} GiB a card on {cards}" if cards > 1 else ""
    fits = needed / cards <= A100_MEMORY
    return f"{needed / 2**30:.1f} GiB{each}" + ("" if fits else f", which does not fit{advice}")


def duration(seconds: float) -> str:
    """Seconds in the unit that people would say."""
    if seconds < 120:
        return f"{seconds:,.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds / 3600:,.1f} h"


def parameters_of(config: BackboneConfig) -> int:
    """Parameters as the YAML has them, else as a local folder's safetensors headers count them."""
    folder = expanded(config.source)
    if config.parameters or not folder.is_dir():
        return config.parameters
    total = 0
    for path in folder.glob("*.safetensors"):
        tensors = safetensors_header(path)
        total += sum(_size(entry["shape"]) for entry in tensors.values())
    return total


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def gemm_speed(dtype: torch.dtype) -> float:
    """Floating-point operations per second of matrix products of a small model's shapes."""
    x, w = torch.randn(512, 576).to(dtype), torch.randn(576, 1536).to(dtype)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(10):
            x @ w
        best = min(best, time.perf_counter() - start)
    return 10 * 2 * 512 * 576 * 1536 / best
