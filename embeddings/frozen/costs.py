"""What reading answers takes: memory and disk by formulas, time as measured on this machine."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from common.errors import Code, UserError
from common.files import bytes_below, expanded, free_bytes
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import cards_of, compute_dtype, default_device
from embeddings.backbone.layers import layer_numbers
from embeddings.backbone.load import PACKAGE
from embeddings.backbone.quantization import NONE
from embeddings.backbone.runtime import TORCH
from embeddings.backbone.shape import parameters_of, shape_of, weight_bytes
from embeddings.frozen.answer_reader import AnswerReader
from embeddings.frozen.log_likelihood import GPU_ROWS, HEAD_ROWS, QUANTITIES
from embeddings.frozen.machine import cards_that_read, memory
from embeddings.frozen.plan import ExtractionPlan
from embeddings.frozen.pooling import POOLINGS
from embeddings.inference import one_core, read_shards
from embeddings.replicas import devices_for

AT_ONCE = 4
"""Answers of each length that a CPU reads at least for a measurement."""

CUDA_ITSELF = 2 * 2.0**30
"""Bytes of a card that CUDA and its libraries take."""

ENOUGH_SECONDS = 20.0
"""After so long no longer answers are timed: they are taken to read as fast as those before."""


def extraction_lines(
    plan: ExtractionPlan, config: BackboneConfig, engine: str = TORCH
) -> list[str]:
    """Memory, disk and time that an extraction takes, for people.

    Args:
        plan: what will be read.
        config: the backbone.
        engine: what will run it on a CPU, ``torch`` or ``openvino``.

    Raises:
        UserError: the backbone is here and cannot be loaded.
    """
    if not parameters_of(config):
        return memory_lines(plan.longest, config)
    disk = len(plan.seen) * bytes_per_answer(config)
    return [
        *memory_lines(plan.longest, config),
        f"  disk: {disk / 2**30:,.2f} GiB of hidden states, {config.state_bits} bits a value",
        time_line(plan, config, engine),
    ]


def bytes_per_answer(config: BackboneConfig) -> int:
    """Bytes of the numbers that are stored of an answer.

    Raises:
        UserError: the backbone's sizes are not known.
    """
    shape = shape_of(config)
    slots = len(layer_numbers(config.layers, shape.layers)) * len(POOLINGS)
    state = shape.width + 1 if config.state_bits == 8 else 2 * shape.width
    return slots * state + 4 * len(QUANTITIES) + 32


def check_room(views: Path, answers: int, config: BackboneConfig) -> None:
    """Check that the disk of a run has room for what will be read.

    What its stores have already is not counted again. Without the backbone's sizes nothing is
    checked.

    Args:
        views: folder of the run's views, which may still have to be made.
        answers: distinct answers of all battles.
        config: the backbone.

    Raises:
        UserError: it has not.
    """
    try:
        needed = answers * bytes_per_answer(config)
    except UserError:
        return
    missing, free = needed - bytes_below(views / "hidden"), free_bytes(views)
    if missing > free:
        raise UserError(
            Code.NO_ROOM,
            f"{views}: the hidden states of {answers:,} answers take {needed / 2**30:,.2f} GiB, "
            f"{missing / 2**30:,.2f} more than are there, and {free / 2**30:,.2f} are free. "
            "Make room, name a --run on another disk, take --state-bits 8, or read with fewer "
            "`layers`.",
        )


def memory_lines(longest: int, config: BackboneConfig) -> list[str]:
    """Memory that reading takes, for people.

    Args:
        longest: tokens of the longest sequence.
        config: the backbone.

    Raises:
        UserError: the backbone is here and damaged.
    """
    parameters = parameters_of(config)
    if not parameters:
        return ["  memory: not estimated, for the backbone's YAML lacks `parameters`"]
    weights = f"{parameters / 1e9:.2f} G parameters, {config.dtype}, {config.quantization}"
    cpu = reading_memory(longest, config, on_gpu=False) / 2**30
    gpu = reading_memory(longest, config, on_gpu=True) / 2**30
    return [
        f"  memory of {config.name} ({weights}): {cpu:.1f} GiB on a CPU, {gpu:.1f} GiB on a GPU in "
        f"batches of {config.batch_tokens:,} tokens"
        + (f", {gpu / 2:.1f} GiB each on two" if config.device_map == "auto" else "")
    ]


def reading_memory(longest: int, config: BackboneConfig, *, on_gpu: bool) -> float:
    """Bytes that reading takes.

    Weights as they are held, plus activations: 24 vectors of the hidden size a token of the
    largest batch, in 16 bits, and three float32 copies of the logits (of a vocabulary of 256,000)
    that are computed at once; and where attention is not fused (Gemma-2's soft-capping) 14 bytes a
    head for each token that a token sees.

    Args:
        longest: tokens of the longest sequence; on a CPU each is a batch.
        config: the backbone.
        on_gpu: whether a GPU reads.
    """
    shape = shape_of(config)
    weights = weight_bytes(config, shape)
    bytes_per_token = 24 * 2 * shape.width + shape.score_bytes(longest)
    tokens, rows = (config.batch_tokens, GPU_ROWS) if on_gpu else (longest, HEAD_ROWS)
    return weights + tokens * bytes_per_token + rows * 3 * 256_000 * 4.0


def unquantized_lines(config: BackboneConfig) -> list[str]:
    """One line for people where a quantized backbone would fit into the cards without, else none.

    The choice stays the user's: other weights are other evidence, at another address.

    Args:
        config: the backbone.

    Raises:
        UserError: PyTorch cannot use the GPU.
    """
    device = default_device()
    if config.quantization == NONE or device.type != "cuda" or not parameters_of(config):
        return []
    places = [torch.device(name) for name in devices_for(config)] or [device]
    cards = [card.index for place in places for card in cards_of(config, place)]
    free = [torch.cuda.mem_get_info(i)[0] / cards.count(i) - CUDA_ITSELF for i in cards]
    room = sum(free) if config.device_map == "auto" else min(free)
    dtype = compute_dtype(config, places[0])
    plain = replace(config, quantization=NONE, dtype=dtype)
    needed = reading_memory(config.max_tokens, plain, on_gpu=True)
    if needed > room:
        return []
    return [
        f"{config.name}: {config.quantization} weights save memory that is not short here. In "
        f"{dtype} it takes {needed / 2**30:.1f} of {room / 2**30:.1f} GiB and should read faster: "
        f"--quantization {NONE} (other numbers, so choose before the first reading)"
    ]


def time_line(plan: ExtractionPlan, config: BackboneConfig, engine: str) -> str:
    """How long the reading takes on this machine, for people: measured where the model is here.

    Args:
        plan: what will be read.
        config: the backbone.
        engine: what will run it on a CPU.

    Raises:
        UserError: the backbone cannot be loaded.
    """
    if not plan.samples:
        return "  time: nothing is to be read"
    on_gpu = torch.cuda.is_available()
    if reason := unmeasurable(config, reading_memory(plan.longest, config, on_gpu=on_gpu)):
        return f"  time: not measured, for {reason}"
    seconds, answers = measured_seconds(plan, config, engine)
    cards = cards_that_read(config)
    seconds /= cards
    tokens = int(plan.tokens.sum())
    return (
        f"  time on this machine: {duration(seconds)}, {tokens / max(seconds, 1e-9):,.0f} tokens a "
        f"second (measured just now on {answers} answers"
        + (f" by one card; {cards} will read)" if cards > 1 else ")")
    )


def measured_seconds(
    plan: ExtractionPlan, config: BackboneConfig, engine: str
) -> tuple[float, int]:
    """Seconds that the reading takes by those of some answers of each length, and their number.

    Args:
        plan: what will be read.
        config: the backbone.
        engine: what will run it on a CPU.

    Raises:
        UserError: the backbone cannot be loaded.
    """
    reader = AnswerReader(config, plan.end_token, plan.shared_prefix, engine)
    at_once = None if reader.budget.tokens else max(AT_ONCE, torch.get_num_threads())
    # The first pass is slower than all others.
    with one_core():
        reader.read(plan.samples[min(plan.samples)][:1])
    total, spent, count, seconds_per_token = 0.0, 0.0, 0, 0.0
    for length, answers in sorted(plan.samples.items()):
        if spent < ENOUGH_SECONDS:
            timed = answers[:at_once]
            start = time.perf_counter()
            for _ in read_shards(timed, reader.read, reader.budget):
                pass
            seconds = time.perf_counter() - start
            seconds_per_token = seconds / sum(answer.tokens for answer in timed)
            spent, count = spent + seconds, count + len(timed)
        total += seconds_per_token * plan.tokens_by_length[length]
    return total, count


def duration(seconds: float) -> str:
    """Seconds in the unit that people would say."""
    if seconds < 120:
        return f"{seconds:,.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds / 3600:,.1f} h"


def unmeasurable(config: BackboneConfig, memory: float) -> str:
    """Why a backbone cannot be timed here; "" where it can.

    Args:
        config: the backbone.
        memory: bytes that it takes.
    """
    if config.source != PACKAGE and not expanded(config.source).is_dir():
        return "the weights are not on this machine"
    return "this machine has too little memory" if memory > _memory_here() else ""


def _memory_here() -> float:
    """Bytes of the GPU's memory, else of this machine's."""
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    return memory()[1]
