"""Point 11: how fast each quantization and attention reads, and whether the YAML's is the best."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch

from benchmarks.cuda.bench import CARD, Bench, quantized
from benchmarks.cuda.models import REAL, REAL_LAYERS
from benchmarks.cuda.report import Part, Parts
from embeddings.backbone.config import load_config
from embeddings.backbone.layers import keep
from embeddings.backbone.quantization import DTYPE_BYTES, bytes_per_weight
from embeddings.backbone.shape import Shape, shape_of
from embeddings.frozen.scoring import Scorer
from embeddings.inference import batches
from embeddings.prompts.answers import PackedAnswer

ATTENTIONS = ("", "flash_attention_2", "flex_attention")
"""The first is what transformers takes for Gemma-2: eager."""

NEAR = 0.9
"""Of the fastest that fits, what the YAML's own choice must reach."""


def speed(bench: Bench, parts: Parts) -> None:
    """Point 11."""
    bench.drop()
    found: dict[tuple[str, str], float] = {}
    for attention in ATTENTIONS:
        for quantization in ("none", "nf4", "int8"):
            name = f"G {quantization}, {attention or 'eager'}"
            needs = [*quantized(quantization)]
            if attention:
                needs.append(CARD)
            if attention == "flash_attention_2":
                needs.append("flash_attn")
            body = partial(_speed, bench, quantization, attention, found)
            parts.run(name, body, *needs)
    parts.run("the YAML's choice", partial(_choice, found), CARD)


def _speed(
    bench: Bench,
    quantization: str,
    attention: str,
    found: dict[tuple[str, str], float],
    part: Part,
) -> None:
    config = bench.config("G", quantization, attention=attention)
    packed = bench.packed(config)
    backbone = bench.load(config)
    lengths = [answer.length for answer in packed.answers]
    batch = packed.answers[next(batches(lengths, bench.sizes.batch_tokens))]
    tokens = sum(answer.tokens for answer in batch)
    layers = len(backbone.decoder.layers)
    seconds = []
    for kept in (layers, layers // 2):
        keep(backbone.decoder, slice(0, kept))
        scorer = Scorer(backbone, packed.end_token, packed.shared_prefix)
        seconds.append(_seconds(bench, scorer, batch))
    a_layer = max(0.0, seconds[0] - seconds[1]) / (layers - layers // 2)
    whole = seconds[0] + (REAL_LAYERS["G"] - layers) * a_layer
    part.figures |= {"tokens/s": tokens / seconds[0], "of the whole model": tokens / whole}
    if bench.device == "cuda":
        shape = shape_of(config)
        operations = 2.0 * tokens * shape.weights / shape.layers * REAL_LAYERS["G"]
        part.figures["share of matrix products"] = operations / whole / _products(shape)
        fits = _fits(shape, quantization)
        part.figures["the whole model fits"] = "yes" if fits else "no"
        if fits:
            found[quantization, attention] = tokens / whole
    # Its hooks and layers refer to one another.
    del scorer, backbone
    bench.free()


def _seconds(bench: Bench, scorer: Scorer, batch: list[PackedAnswer]) -> float:
    """Seconds of a batch, the fastest of three after one that does not count."""
    times = []
    for _ in range(4):
        bench.synchronize()
        start = time.perf_counter()
        scorer.score(batch)
        bench.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _products(shape: Shape) -> float:
    """Floating-point operations a second of one large product of 16-bit numbers."""
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    x = torch.randn(8192, shape.width, device="cuda", dtype=dtype)
    w = torch.randn(shape.inner, shape.width, device="cuda", dtype=dtype)
    for times in (3, 20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            torch.nn.functional.linear(x, w)
        torch.cuda.synchronize()
    return 2.0 * x.numel() * shape.inner * times / (time.perf_counter() - start)


def _fits(shape: Shape, quantization: str) -> bool:
    """Whether the weights of the whole model leave a fifth of the card's memory free."""
    layers = shape.weights / shape.layers * REAL_LAYERS["G"]
    rest = REAL["G"]["vocab_size"] * shape.width
    weights = layers * bytes_per_weight(quantization, "bfloat16") + rest * DTYPE_BYTES["bfloat16"]
    return bool(weights < 0.8 * torch.cuda.get_device_properties(0).total_memory)


def _choice(found: dict[tuple[str, str], float], part: Part) -> None:
    config: Any = load_config("gemma2-9b")
    own = (config.quantization, config.attention)
    fastest = max(found, key=lambda way: found[way])
    if own not in found:
        part.not_run(f"{' '.join(filter(None, own))} has no figure")
        return
    part.figures |= {"YAML": " ".join(filter(None, own)), "fastest": " ".join(fastest)}
    part.at_least("its tokens/s over the fastest's", found.get(own, 0.0) / found[fastest], NEAR)
