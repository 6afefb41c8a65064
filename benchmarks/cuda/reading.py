"""Points 3 to 6: numbers, syncs, attention kernels, and memory that runs out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.cuda.bench import (
    CARD,
    LETTERS,
    Bench,
    apart,
    cosines,
    quantized,
    read,
    read_alone,
)
from benchmarks.cuda.models import REAL_LAYERS
from benchmarks.cuda.report import Part, Parts
from common.errors import Code, UserError
from embeddings.backbone.attention import REPEATED, fit_attention
from embeddings.backbone.device import Card
from embeddings.backbone.load import load_backbone
from embeddings.backbone.shape import shape_of, weight_bytes
from embeddings.frozen.costs import reading_memory
from embeddings.frozen.scoring import Scorer
from embeddings.inference import BatchBudget, batches, read_shards

ALONE, COSINE = 3e-2, 0.9995

T4 = Card(0, "as a T4", (7, 5))


def numbers(bench: Bench, parts: Parts) -> None:
    """Point 3."""
    for letter in LETTERS:
        for quantization in ("none", "nf4", "int8"):
            needs = quantized(quantization)
            name = f"{letter} {quantization}"
            body = partial(_batch_and_alone, bench, letter, quantization)
            parts.run(f"{name}, batch against alone", body, *needs)
            body = partial(_reference, bench, letter, quantization)
            parts.run(f"{name} against float32", body, *needs)
        parts.run(f"{letter} none, other padding", partial(_padding, bench, letter))
    for quantization in ("none", "nf4"):
        body = partial(_cpu, bench, quantization)
        parts.run(f"Q {quantization}, CPU against GPU", body, CARD, *quantized(quantization))


def _batch_and_alone(bench: Bench, letter: str, quantization: str, part: Part) -> None:
    config = bench.config(letter, quantization)
    scorer, answers = bench.scorer(config), bench.packed(config).answers
    tokens = bench.sizes.batch_tokens
    resident = bench.allocated()
    found: list[tuple[np.ndarray, np.ndarray]] = []
    peak = bench.peak(lambda: found.append(read(scorer, answers, tokens)))
    (batch, quantities), (alone, others) = found[0], read_alone(scorer, answers)
    part.holds("all numbers are finite", bool(np.isfinite(batch).all()))
    distances = apart(batch, alone)
    part.figures["nats apart"] = float(np.nanmax(np.abs(quantities[:, 0] - others[:, 0])))
    if quantization == "int8":
        # It chooses its columns over the whole batch.
        part.figures["largest distance"] = float(distances.max())
    else:
        part.at_most("largest distance", float(distances.max()), ALONE)
    if bench.device == "cuda":
        longest = max(len(answer.ids) for answer in answers)
        plan = reading_memory(longest, config, on_gpu=True) - weight_bytes(config, shape_of(config))
        part.at_most("peak above the weights over the plan", (peak - resident) / plan, 1.1)


def _reference(bench: Bench, letter: str, quantization: str, part: Part) -> None:
    """The same weights in float32, eager, without TF32; of int8, those before quantization."""
    config = bench.config(letter, quantization)
    answers = bench.packed(config).answers
    found, quantities = read(bench.scorer(config), answers, bench.sizes.batch_tokens)
    exact = bench.config(
        letter,
        "nf4" if quantization == "nf4" else "none",
        "float32",
        attention="eager",
    )
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        packed = bench.packed(config)
        scorer = Scorer(bench.load(exact), packed.end_token, packed.shared_prefix)
        reference, others = read(scorer, answers, bench.sizes.batch_tokens // 4)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    distance = float(np.median(apart(found, reference)))
    part.figures["nats apart"] = float(np.nanmax(np.abs(quantities[:, 0] - others[:, 0])))
    if quantization == "int8":
        part.figures["median distance"] = distance
    else:
        part.at_most("median distance", distance, bench.sizes.distance)
    del scorer
    bench.free()


def _padding(bench: Bench, letter: str, part: Part) -> None:
    config = bench.config(letter)
    answers = bench.packed(config).answers[-8:]
    engine: Any = bench.scorer(config).engine
    ids = [torch.from_numpy(answer.ids.astype(np.int64)) for answer in answers]
    zeros = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    own = torch.nn.utils.rnn.pad_sequence([torch.ones_like(i) for i in ids], batch_first=True) > 0
    others = torch.where(own, zeros, torch.randint(3, 400, zeros.shape))
    with torch.inference_mode():
        some, same = (
            [states.cpu() for states in engine.decode(batch.to(bench.device), None, None)]
            for batch in (zeros, others)
        )
    equal = all(torch.equal(a[own], b[own]) for a, b in zip(some, same, strict=True))
    part.figures["padding"] = f"{int((~own).sum())} of {own.numel()} tokens"
    part.holds("states do not depend on the ids of padding", equal)


def _cpu(bench: Bench, quantization: str, part: Part) -> None:
    config = bench.config("Q", quantization)
    packed = bench.packed(config)
    answers = packed.answers[-12:]
    there, quantities = read(bench.scorer(config), answers, bench.sizes.batch_tokens)
    scorer = Scorer(load_backbone(config, "cpu"), packed.end_token, packed.shared_prefix)
    here, others = read(scorer, answers, 0)
    part.figures["nats apart"] = float(np.nanmax(np.abs(quantities[:, 0] - others[:, 0])))
    part.at_least("smallest cosine", float(cosines(there, here).min()), COSINE)


def busy(bench: Bench, parts: Parts) -> None:
    """Point 4."""
    for letter in LETTERS:
        parts.run(f"{letter} none", partial(_busy, bench, letter), CARD)


def _busy(bench: Bench, letter: str, part: Part) -> None:
    config = bench.config(letter)
    scorer, answers = bench.scorer(config), bench.packed(config).answers
    lengths = [answer.length for answer in answers]
    batch = answers[next(batches(lengths, bench.sizes.batch_tokens))]
    scorer.score(batch)
    bench.synchronize()
    start = time.perf_counter()
    for _ in range(3):
        scorer.score(batch)
    bench.synchronize()
    seconds = (time.perf_counter() - start) / 3
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scorer.score(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    syncs = sum("synchronizing" in str(warning.message) for warning in caught)
    part.figures |= {"answers": len(batch), "syncs a batch": syncs, "seconds a batch": seconds}
    kinds = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds) as profiled:
        with torch.inference_mode():
            scorer.engine.states([answer.ids for answer in batch])
        bench.synchronize()
    decoder = covered(_kernels(profiled.events()))
    with torch.profiler.profile(activities=kinds) as profiled:
        scorer.score(batch)
        bench.synchronize()
    kernels = covered(_kernels(profiled.events()))
    if not kernels:
        part.figures["kernels"] = "the profiler sees none here: how busy the GPU is stays unknown"
        return
    # Launches and syncs of pooling and head are a batch's; layers are those of the whole model.
    more = decoder * (REAL_LAYERS[letter] / len(scorer.backbone.decoder.layers) - 1)
    idle = max(0.0, seconds - kernels)
    part.figures |= {"kernels' share": kernels / seconds, "kernels a batch": kernels}
    share = (kernels + more) / (kernels + more + idle)
    part.at_least(f"the same with {REAL_LAYERS[letter]} layers", share, 0.9)


def _kernels(events: Iterable[Any]) -> list[tuple[float, float]]:
    """Begin and end in seconds of what the profiler saw on the card."""
    on_card = [
        e for e in events if str(e.device_type).endswith("CUDA") and not e.is_user_annotation
    ]
    return [(e.time_range.start / 1e6, e.time_range.end / 1e6) for e in on_card]


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans of time, each a begin and an end."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def kernels(bench: Bench, parts: Parts) -> None:
    """Point 5."""
    parts.run("L in bfloat16, flash alone", partial(_flash, bench), CARD)
    parts.run("L in float16, repeated keys", partial(_repeated, bench))


def _flash(bench: Bench, part: Part) -> None:
    config = bench.config("L")
    scorer, answers = bench.scorer(config), bench.packed(config).answers
    expected, _ = read(scorer, answers, bench.sizes.batch_tokens)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        found, _ = read(scorer, answers, bench.sizes.batch_tokens)
    part.at_least("smallest cosine", float(cosines(found, expected).min()), COSINE)


def _repeated(bench: Bench, part: Part) -> None:
    """What a T4 has: without flash, shared keys are stored as scores in float32."""
    config = bench.config("L", dtype="float16")
    packed, tokens = bench.packed(config), bench.sizes.batch_tokens
    backbone = bench.load(config)
    shared, _ = read(
        Scorer(backbone, packed.end_token, packed.shared_prefix), packed.answers, tokens
    )
    fit_attention(backbone.model, [T4])
    way = backbone.model.config._attn_implementation
    part.holds(f"keys are repeated: {way}", way == REPEATED)
    scorer = Scorer(backbone, packed.end_token, packed.shared_prefix)
    if bench.device == "cpu":
        found, _ = read(scorer, packed.answers, tokens)
        part.figures["kernel"] = "PyTorch's own choice: the memory-efficient one needs a card"
    else:
        peaks: dict[str, float] = {}
        results: list[tuple[np.ndarray, np.ndarray]] = []
        for name, backend in (("GiB", SDPBackend.EFFICIENT_ATTENTION), ("math", SDPBackend.MATH)):
            before = bench.allocated()
            with sdpa_kernel(backend):
                peaks[name] = bench.peak(
                    lambda: results.append(read(scorer, packed.answers, tokens))
                )
            peaks[name] = (peaks[name] - before) / 2**30
        part.figures |= {"GiB above the weights": peaks["GiB"], "by the math kernel": peaks["math"]}
        found, _ = results[0]
    part.at_least("smallest cosine", float(cosines(found, shared).min()), COSINE)


def memory(bench: Bench, parts: Parts) -> None:
    """Point 6."""
    parts.run("L none, smaller batches", partial(_memory, bench), CARD)


def _memory(bench: Bench, part: Part) -> None:
    config = bench.config("L")
    answers = bench.packed(config).answers
    scorer = bench.scorer(config)
    full = bench.sizes.batch_tokens
    resident = bench.allocated()
    above = bench.peak(lambda: read(scorer, answers, full)) - resident
    alone = bench.peak(lambda: read(scorer, answers[:1], 1)) - resident
    total = torch.cuda.get_device_properties(0).total_memory
    bench.free()
    held = torch.cuda.memory_reserved()
    part.figures |= {"GiB of a batch": above / 2**30, "of the longest answer": alone / 2**30}
    seen: list[bytes] = []
    try:
        # More than the longest answer takes, since memory comes in blocks, and less than a batch.
        _cap((held + 1.3 * alone + 0.4 * (above - alone)) / total)
        budget = BatchBudget(full)
        for shard, _ in read_shards(
            answers, lambda batch: list(zip(*scorer.score(batch), strict=True)), budget
        ):
            seen += [answer.key for answer in shard]
        part.figures["tokens of a batch"] = f"{full} at first, {budget.tokens} at last"
        part.holds("the budget was halved", budget.tokens < full)
        part.holds("every answer was read once", seen == [answer.key for answer in answers])
        _cap((held + 0.05 * alone) / total)
        try:
            read(scorer, answers, full)
            part.holds("too little memory for one answer ends the reading", False)
        except UserError as error:
            part.figures["error"] = str(error)
            part.holds("the error is of memory", error.code is Code.OUT_OF_MEMORY)
    finally:
        _cap(1.0)


def _cap(share: float) -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(share, 1.0))
