"""What reading with a backbone will cost, from stated formulas, before its weights are loaded."""

from __future__ import annotations

import time

import torch

from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.runtime import TORCH
from embeddings.backbone.shape import parameters_of, shape_of
from embeddings.frozen.log_likelihood import GPU_ROWS, HEAD_ROWS

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


def estimate_reading(
    tokens: int, longest: int, config: BackboneConfig, engine: str = TORCH
) -> list[str]:
    """Seconds and memory that reading will take, here and on an A100 40 GB, for people.

    Time is 2 x parameters x tokens floating-point operations (Kaplan et al. 2020, forward pass)
    over a share (MFU) of the device's matrix-product speed. Memory is parameters x bytes a weight,
    plus activations (24 vectors of the hidden size a token of the largest batch, in 16 bits, and
    three float32 copies of one chunk of logits), and where attention is not fused (Gemma-2's
    soft-capping) 14 bytes a head for each token that a token sees, as ``costs.gpu_memory`` has it.

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
    shape = shape_of(config)
    a_token = 24 * 2 * shape.width + shape.score_bytes(longest)
    logits = 3 * 256_000 * 4.0
    here = weights + longest * a_token + HEAD_ROWS * logits
    there = weights + config.batch_tokens * a_token + GPU_ROWS * logits
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
