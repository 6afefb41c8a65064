"""Points 7 to 10: a judge in training, stopped and resumed, in prediction; letters of a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cuda.bench import BITSANDBYTES, CARD, CHECKPOINTING, PEFT, Bench, quantized
from benchmarks.cuda.report import Part, Parts
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.load import load_tokenizer
from embeddings.backbone.shape import shape_of
from embeddings.cache.tensor_files import read_tensors
from embeddings.frozen.pair_reader import Inputs, token_ids
from embeddings.judge.config import JudgeConfig
from embeddings.judge.costs import gpu_memory
from embeddings.judge.model import Judge, average
from embeddings.judge.replicas import judge_replica, untrained
from embeddings.judge.trainer import WEIGHTS, Trainer
from embeddings.prompts.pairs import PackedPair, distinct, pack_with
from embeddings.zero_shot.judge import packing, query_backbone
from embeddings.zero_shot.prompt import letter_tokens
from tests.helpers.planted import examples, planted

NEEDS = (BITSANDBYTES, PEFT, CHECKPOINTING)

STEPS, BATTLES, DIRECTION, RESUMED, ALONE, NATS = 12, 4, 1e-3, 1e-3, 3e-2, 0.1


def recipe(bench: Bench, **changes: Any) -> JudgeConfig:
    """A training that reads the same few battles in every step."""
    rate = 1e-4 if bench.sizes.real else 1e-2
    rank = bench.sizes.rank
    entries: dict[str, Any] = {
        **{"max_tokens": 256, "batch_tokens": 4096, "gradient_checkpointing": True},
        **{"rank": rank, "alpha": rank, "epochs": STEPS, "batch": BATTLES},
        **{"lr": rate, "head_lr": rate},
    }
    return JudgeConfig.of(entries | changes)


def prepare(
    bench: Bench,
    training: JudgeConfig,
    folder: Path,
    inputs: Inputs = token_ids,
    weights: Mapping[str, torch.Tensor] | None = None,
    **changes: Any,
) -> Trainer:
    """A judge of the model G in nf4, ready to be trained on planted battles.

    Args:
        bench: where.
        training: how.
        folder: of its checkpoints and weights.
        inputs: gives what the model gets of a sequence.
        weights: that it begins with.
        changes: of the backbone's configuration.
    """
    config = bench.config("G", "nf4", **changes)
    judge = Judge(bench.load(config, trains=True), training)
    if weights is not None:
        judge.load(weights)
    folder.mkdir(parents=True, exist_ok=True)
    return Trainer(judge, examples(planted(BATTLES), config, training), training, folder, inputs)


def train(bench: Bench, training: JudgeConfig, folder: Path, **how: Any) -> Trainer:
    """Train such a judge to its end; the arguments are those of ``prepare``."""
    trainer = prepare(bench, training, folder, **how)
    trainer.run(3, folder.name)
    return trainer


def calm(bench: Bench) -> Path:
    """The folder of a judge that was trained without a stop; trained now unless it is there."""
    folder = bench.folder / "judges" / "calm"
    if not (folder / WEIGHTS).exists():
        train(bench, recipe(bench), folder)
        bench.free()
    return folder


def training(bench: Bench, parts: Parts) -> None:
    """Point 7."""
    bench.drop()
    parts.run("G nf4, 12 steps", partial(_steps, bench), *NEEDS)
    for name, changes, needs in (
        ("without checkpointing", {"gradient_checkpointing": False}, NEEDS),
        ("one sequence at a time", {"batch_tokens": 1}, (CARD, *NEEDS)),
    ):
        parts.run(f"gradient, {name}", partial(_direction, bench, changes), *needs)


def _steps(bench: Bench, part: Part) -> None:
    training, folder = recipe(bench), bench.folder / "judges" / "calm"
    before = bench.allocated()
    trainer = prepare(bench, training, folder)
    peak = bench.peak(lambda: trainer.run(3, "calm")) - before
    losses = trainer.losses
    part.figures["losses"] = " ".join(f"{loss:.3f}" for loss in losses)
    part.holds("all losses are finite", all(map(math.isfinite, losses)))
    part.at_most("last loss over first", float(np.mean(losses[-2:])) / losses[0], 0.95)
    without = [
        name
        for name, parameter in trainer.judge.trained.items()
        if parameter.grad is None or not (parameter.grad.isfinite().all() and parameter.grad.any())
    ]
    part.holds(f"every trained matrix has a gradient: {without[:3]}", not without)
    if bench.device == "cuda":
        bits = {
            name: str(trainer.optimizer.state[parameter]["state1"].dtype)
            for name, parameter in trainer.judge.trained.items()
        }
        lora = {kind for name, kind in bits.items() if "lora_" in name}
        head = {kind for name, kind in bits.items() if name.startswith("head.")}
        part.figures["moments"] = f"LoRA {sorted(lora)}, head {sorted(head)}"
        part.holds("LoRA's moments have 8 bits", lora == {"torch.uint8"})
        part.holds("the head's moments have 32 bits", head == {"torch.float32"})
        config = bench.config("G", "nf4")
        longest = max(len(s.ids) for s in trainer.dataset.pairs.forward)
        own, shape = replace(training, batch_tokens=2 * BATTLES * longest), shape_of(config)
        plan = gpu_memory(config, own, shape, shape.layers, longest)
        part.figures["memory over the plan"] = peak / plan
    bench.free()


def _gradient(bench: Bench, name: str, **changes: Any) -> torch.Tensor:
    """All gradients of one step that moves nothing, as one vector."""
    weights, _ = read_tensors(calm(bench) / WEIGHTS)
    still = recipe(bench, lr=0.0, head_lr=0.0, weight_decay=0.0, epochs=1, **changes)
    trainer = train(bench, still, bench.folder / "judges" / name, weights=weights)
    trained = trainer.judge.trained
    gradients = [trained[n].grad.flatten().cpu().double() for n in sorted(trained)]
    del trainer
    bench.free()
    return torch.cat(gradients)


def _direction(bench: Bench, changes: dict[str, Any], part: Part) -> None:
    plain, other = _gradient(bench, "plain"), _gradient(bench, "other", **changes)
    cosine = torch.nn.functional.cosine_similarity(plain, other, dim=0)
    part.at_most("1 - cosine", 1 - float(cosine), DIRECTION)


class StoppedError(Exception):
    """A training that is stopped on purpose."""


def resume(bench: Bench, parts: Parts) -> None:
    """Point 8."""
    parts.run("G nf4, stopped after step 5, resumed", partial(_resume, bench), *NEEDS)


def _resume(bench: Bench, part: Part) -> None:
    expected, _ = read_tensors(calm(bench) / WEIGHTS)
    folder, left = bench.folder / "judges" / "stopped", 2 * BATTLES * 5 + 2

    def stopping(sequence: PackedPair) -> torch.Tensor:
        nonlocal left
        left -= 1
        if left < 0:
            raise StoppedError
        return token_ids(sequence)

    try:
        train(bench, recipe(bench), folder, inputs=stopping)
    except StoppedError:
        bench.free()
    part.holds("it was stopped", not (folder / WEIGHTS).exists())
    resumed = train(bench, recipe(bench), folder)
    part.holds("it went on, and did not begin anew", resumed.steps == len(resumed.losses) == STEPS)
    found, _ = read_tensors(folder / WEIGHTS)
    differences = [float((found[n] - w).abs().max()) for n, w in expected.items()]
    part.at_most("largest difference of a weight", max(differences), RESUMED)
    part.figures["steps after the stop"] = resumed.steps - 3
    del resumed
    bench.free()


def judges(bench: Bench, parts: Parts) -> None:
    """Point 9."""
    parts.run("G nf4, batch against alone", partial(_judge, bench), *NEEDS)


def _judge(bench: Bench, part: Part) -> None:
    config, training = bench.config("G", "nf4"), recipe(bench)
    path = calm(bench) / WEIGHTS
    sequences = distinct(examples(planted(BATTLES), config, training).pairs)
    alone = _logits(config, training, path, sequences, at_once=1)
    batch = _logits(config, training, path, sequences, at_once=len(sequences))
    part.figures["largest logit"] = float(alone.abs().max())
    part.at_most("batch against alone", _apart(batch, alone), ALONE)
    twice = replace(training, rank=2 * training.rank, alpha=2 * training.alpha)
    judge = untrained(config, twice, shape_of(config).layers)
    replica = judge_replica(judge.load(average([path, path])), token_ids, sequences[-1:])
    averaged = torch.cat(replica.read(sequences))
    part.at_most("the mean of a judge with itself", _apart(averaged, batch), ALONE)
    del judge, replica
    bench.free()


def _logits(
    config: BackboneConfig,
    training: JudgeConfig,
    path: Path,
    sequences: list[PackedPair],
    at_once: int,
) -> torch.Tensor:
    judge = untrained(config, training, shape_of(config).layers)
    replica = judge_replica(judge.load(read_tensors(path)[0]), token_ids, sequences[-1:])
    starts = range(0, len(sequences), at_once)
    return torch.cat([row for i in starts for row in replica.read(sequences[i : i + at_once])])


def _apart(some: torch.Tensor, other: torch.Tensor) -> float:
    return float((some - other).norm() / other.norm())


def verdict(bench: Bench, parts: Parts) -> None:
    """Point 10."""
    for letter, quantization in (("G", "none"), ("L", "nf4"), ("Q", "none")):
        body = partial(_letters, bench, letter, quantization)
        parts.run(f"{letter} {quantization}", body, *quantized(quantization))


def _letters(bench: Bench, letter: str, quantization: str, part: Part) -> None:
    config = bench.config(letter, quantization)
    tokenizer = load_tokenizer(config)
    packer, budget = packing(tokenizer, 512)
    pairs = pack_with(packer, planted(16), budget)
    (found,) = query_backbone([pairs], config)
    part.holds("all are finite", bool(np.isfinite(found).all()))
    part.at_most("largest sum of probabilities", float(np.exp(found).sum(axis=1).max()), 1.0)
    model, tokens = bench.scorer(config).backbone.model, letter_tokens(tokenizer)
    differences = []
    for row, sequence in enumerate(pairs.forward[:6]):
        ids = torch.from_numpy(sequence.ids.astype(np.int64))[None].to(bench.device)
        with torch.inference_mode():
            logs = model(ids).logits[0, -1].float().log_softmax(dim=0).cpu()
        whole = [float(logs[list(some)].logsumexp(dim=0)) for some in tokens]
        differences.append(np.abs(found[row] - whole).max())
    part.at_most("nats from the whole model, alone", float(max(differences)), NATS)
