"""What a fine-tuning will cost, from stated formulas, before anything is loaded.

Time. A forward pass costs 2 operations per weight and token (Kaplan et al. 2020). Backward through
frozen weights costs as much again (no gradient of the weights themselves), and gradient
checkpointing a second forward pass: 4 or 6 operations per weight and token. Left out: LoRA (under
2%), and attention scores (some 4% at 2,000 tokens). The embedding and the language model's head are
not counted: the one is a look-up, the other is not used. All over a share (MFU) of the device's
speed.

Memory, on the GPU: weights (``embeddings.backbone.quantization``); LoRA at 14 bytes a parameter
(float32 weights, their gradients, those of a micro-batch, two 8-bit moments); activations
per token and trained layer of 34 d bytes (Korthikanti et al. 2022, equation 2, without the
attention matrices, which fused kernels do not store) and 3 (6 d + f) bytes for the inputs of LoRA
(bf16 and a dropout mask, d the hidden and f the intermediate size); where attention is not fused
(Gemma-2's soft-capping), 14 bytes a head for each token that a token sees. With gradient
checkpointing only one layer has these, and each layer 2 d; in int8 also 2 (3 d + f), since
bitsandbytes keeps the inputs of its products where checkpointing does not see them. What CUDA
itself takes, one or two GiB, comes on top.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.layers import LayerRange
from embeddings.backbone.quantization import bytes_per_weight
from embeddings.backbone.shape import Shape, parameters_of, shape_of
from embeddings.frozen.costs import duration
from embeddings.judge.config import JudgeConfig
from embeddings.judge.head import states_of
from embeddings.judge.probe import FOLDS
from embeddings.judge.trainer import steps_of
from embeddings.prompts.pairs import Pairs, distinct

CPU_MFU = {"float32": 0.78, "bfloat16": 0.55, "float16": 0.55, "nf4": 0.45, "int8": 0.23}
"""Share of the GEMM speed in the compute dtype that extraction reached with SmolLM2-135M, one
sequence at a time, on 2 cores with AVX512-BF16 (measured for this project, not float16)."""

A100_FLOPS = 312e12
"""Dense bf16 peak of an A100 (NVIDIA data sheet)."""

A100_MEMORY = 40e9

A100_MFU = {"float32": 0.03, "bfloat16": 0.4, "float16": 0.4, "nf4": 0.25, "int8": 0.2}
"""Assumed, not measured; float32 runs at 19.5 TFLOP/s there."""

CPU_TRAINING = 0.7
"""Share of extraction's MFU that training reached on a CPU (SmolLM2-135M, bf16, 8 of 30 layers from
the cache: .13 s for 216 tokens, .32 s for 512, on 2 cores; measured for this project)."""


@dataclass(frozen=True)
class Tokens:
    """How many tokens a fine-tuning reads, where nothing is on disk yet; padding not included."""

    learned: int
    """By the trained layers, forward and backward: of every judge and epoch together."""
    frozen: int
    """By the same layers before they are trained: what heads start from, and the view joint."""
    asked: int
    """By the judges: the battles that each left out, and the test battles."""
    lower: int
    """By the layers below, which are read once; 0 where there are none."""

    @classmethod
    def of(
        cls,
        train: Pairs,
        predict: Pairs,
        test: Pairs | None,
        left_out: Sequence[np.ndarray],
        recipe: JudgeConfig,
        *,
        average: bool,
    ) -> Tokens:
        """Count them; the arguments are those of ``estimate_finetuning``."""
        tests = [test] if test else []
        others = [predict, *tests]
        judged = [[predict.take(np.flatnonzero(out))] for out in left_out]
        judged = [*judged, tests] if average else [[*table, *tests] for table in judged]
        return cls(
            learned=recipe.epochs
            * sum(train.take(np.flatnonzero(~out)).tokens for out in left_out),
            frozen=_length(train, *(others if recipe.looks_at_all else [])),
            # A judge of no epoch says what it knows of the frozen states.
            asked=sum(_length(*tables) for tables in judged) if recipe.epochs else 0,
            lower=_length(train, *others) if recipe.top_layers else 0,
        )


def _length(*tables: Pairs) -> int:
    """Tokens of all sequences of these battles, each once."""
    return sum(len(s.ids) for s in distinct(*tables))


def gpu_memory(
    config: BackboneConfig, recipe: JudgeConfig, shape: Shape, trained: int, longest: int
) -> float:
    """Bytes that training takes on a GPU, by the formulas above; reading, where there is no epoch.

    Args:
        config: the backbone.
        recipe: how it is trained.
        shape: of the backbone.
        trained: number of its layers that are.
        longest: tokens of the longest sequence.
    """
    kind = config.dtype if config.quantization == "none" else config.quantization
    layer = 34 * shape.width + 3 * (6 * shape.width + shape.inner)
    layer += shape.score_bytes(longest)
    weights = (parameters_of(config) or shape.weights) * bytes_per_weight(
        config.quantization, config.dtype
    )
    if recipe.epochs == 0:
        return weights + max(config.batch_tokens, longest) * layer
    tokens = max(recipe.batch_tokens, longest)
    kept = 2 * shape.width * trained + layer if recipe.gradient_checkpointing else layer * trained
    if recipe.gradient_checkpointing and kind == "int8":
        kept += 2 * (3 * shape.width + shape.inner) * trained
    return weights + 14 * recipe.rank * shape.projections * trained + tokens * kept


def probe_memory(recipe: JudgeConfig, shape: Shape, battles: int) -> float:
    """Bytes that the probe takes from which a head starts: all states, and those of two folds.

    Args:
        recipe: which states the head reads.
        shape: of the backbone.
        battles: that a judge learns from, in both orders.
    """
    states = states_of(recipe, len(recipe.depths))
    return 2 * battles * states * shape.width * 4 * (1 + (FOLDS - 1) / FOLDS)


def estimate_finetuning(
    train: Pairs,
    predict: Pairs,
    test: Pairs | None,
    left_out: Sequence[np.ndarray],
    config: BackboneConfig,
    recipe: JudgeConfig,
    *,
    average: bool,
) -> list[str]:
    """Steps, hours and memory of a fine-tuning, for people.

    Args:
        train: the training battles, packed for training.
        predict: the same, packed for prediction.
        test: the test battles, packed for prediction, if there are any.
        left_out: what each judge leaves out, bool (n,) each.
        config: the backbone.
        recipe: how it is trained.
        average: whether one mean judge reads the test battles, and not every judge.
    """
    shape = shape_of(config)
    kind = config.dtype if config.quantization == "none" else config.quantization
    tokens = Tokens.of(train, predict, test, left_out, recipe, average=average)
    span = LayerRange.of(recipe.depths, recipe.top_layers, shape.layers)
    trained = span.end - span.begin
    top, lower = trained / shape.layers, span.begin / shape.layers
    learned = [int((~out).sum()) for out in left_out]
    a_token = 6 if recipe.gradient_checkpointing else 4
    training = a_token * top * shape.weights * tokens.learned
    read = tokens.frozen + tokens.asked
    reading = 2 * shape.weights * (top * read + lower * tokens.lower)
    longest = max((len(s.ids) for s in (*train.forward, *train.swapped)), default=0)
    memory = gpu_memory(config, recipe, shape, trained, longest)
    speed = gemm_speed(torch.float32 if kind == "float32" else torch.bfloat16)
    here = training / (CPU_TRAINING * CPU_MFU[kind] * speed) + reading / (CPU_MFU[kind] * speed)
    there = (training + reading) / (A100_MFU[kind] * A100_FLOPS)
    thrift = "lower --max-tokens, or add --quantization nf4"
    if recipe.epochs:
        thrift = f"lower --batch-tokens, {thrift} or --gradient-checkpointing"
    lines = [
        f"  battles {len(train.ids):,}, tokens of both orders {train.tokens:,} in training "
        f"(longest sequence {longest:,}), {predict.tokens:,} in prediction; truncated "
        f"{(train.cut > 0).mean() if len(train.cut) else 0.0:.1%}",
        *(
            f"  judge {k + 1} of {len(left_out)}: {rows:,} battles, {steps_of(rows, recipe):,} "
            f"steps; leaves out {len(train.ids) - rows:,}"
            for k, rows in enumerate(learned)
        ),
        f"  training {a_token} x {top * shape.weights / 1e9:.2f} G weights x {tokens.learned:,} "
        f"tokens = {training / 1e12:,.0f} TFLOP; reading 2 x weights x {read:,} tokens"
        + (f", lower layers once for {tokens.lower:,}" if tokens.lower else "")
        + f" = {reading / 1e12:,.0f} TFLOP",
        f"  LoRA {recipe.rank * shape.projections * trained:,} parameters of rank {recipe.rank}",
        f"  this machine's CPU: {duration(here)} at {CPU_TRAINING * CPU_MFU[kind]:.0%} (training) "
        f"and {CPU_MFU[kind]:.0%} (reading) of {speed / 1e9:,.0f} GFLOP/s (measured just now)",
        f"  A100 40 GB: {duration(there)} at {A100_MFU[kind]:.0%} of 312 TFLOP/s (assumed, not "
        f"measured), {on_cards(memory, config, f': {thrift}')}",
        "  before a judge is loaded, the probe that its head starts from: "
        f"{probe_memory(recipe, shape, max(learned, default=0)) / 2**30:.1f} GiB on one card",
    ]
    if tokens.lower:
        width = shape.width * (4 if config.dtype == "float32" else 2)
        lines.append(
            f"  disk for the lower layers' output: {tokens.lower:,} tokens x {width:,} bytes = "
            f"{tokens.lower * width / 2**30:,.1f} GiB"
        )
    return [*([f"  {shape.note}"] if shape.note else []), *lines]


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
