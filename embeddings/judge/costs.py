"""What a fine-tuning takes: memory and disk by formulas, time as measured on this machine.

Memory, on the GPU: weights, at the bytes of ``embeddings.backbone.quantization``; LoRA at 14 bytes
a parameter (float32 weights, their gradients, those of a micro-batch, two 8-bit moments);
activations per token and trained layer of 34 d bytes (Korthikanti et al. 2022, equation 2, without
the attention matrices, which fused kernels do not store) and 3 (6 d + f) bytes for the inputs of
LoRA (bf16 and a dropout mask, d the hidden and f the intermediate size); where attention is not
fused (Gemma-2's soft-capping), 14 bytes a head for each token that a token sees. With gradient
checkpointing only one layer has these, and each layer 2 d; in int8 also 2 (3 d + f), since
bitsandbytes keeps the inputs of its products where checkpointing does not see them. What CUDA
itself takes, one or two GiB, comes on top.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np

from common.files import bytes_below
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.layers import LayerRange
from embeddings.backbone.load import load_backbone
from embeddings.backbone.shape import Shape, shape_of, weight_bytes
from embeddings.frozen.costs import ENOUGH_SECONDS, duration, unmeasurable
from embeddings.frozen.layer_cache import check_room
from embeddings.frozen.machine import cards_that_read
from embeddings.frozen.pair_states import PairStates, with_room
from embeddings.judge.config import JudgeConfig
from embeddings.judge.dataset import JudgeDataset
from embeddings.judge.head import states_of
from embeddings.judge.model import Judge
from embeddings.judge.probe import FOLDS
from embeddings.judge.trainer import Trainer, steps_of
from embeddings.prompts.pairs import Pairs, distinct

TIMED_BATTLES = 4
"""So many battles are timed at most, spread over all lengths."""


@dataclass(frozen=True)
class Tokens:
    """How many tokens a fine-tuning reads, where nothing is on disk yet; padding not included."""

    learned: int
    """By the trained layers, forward and backward: of every judge and epoch together."""
    frozen: int
    """By the same layers before they are trained: what heads start from, and the view joint."""
    queried: int
    """By the judges: the battles that each left out, and the test battles."""
    lower: int
    """By the layers below, which are read once; 0 where there are none."""

    @classmethod
    def of(
        cls,
        train: Pairs,
        predict: Pairs,
        test: Pairs | None,
        val_masks: Sequence[np.ndarray],
        training: JudgeConfig,
        *,
        average: bool,
    ) -> Tokens:
        """Count them; the arguments are those of ``estimate_finetuning``."""
        tests = [test] if test else []
        others = [predict, *tests]
        judged = [[predict.take(np.flatnonzero(out))] for out in val_masks]
        judged = [*judged, tests] if average else [[*table, *tests] for table in judged]
        return cls(
            learned=training.epochs
            * sum(train.take(np.flatnonzero(~out)).tokens for out in val_masks),
            frozen=_length(train, *(others if training.reads_all_battles else [])),
            # A judge of no epoch says what it knows of the frozen states.
            queried=sum(_length(*tables) for tables in judged) if training.epochs else 0,
            lower=_length(train, *others) if training.top_layers else 0,
        )


def _length(*tables: Pairs) -> int:
    """Tokens of all sequences of these battles, each once."""
    return sum(len(s.ids) for s in distinct(*tables))


def gpu_memory(
    config: BackboneConfig, training: JudgeConfig, shape: Shape, trained: int, longest: int
) -> float:
    """Bytes that training takes on a GPU, by the formulas above; reading, where there is no epoch.

    Args:
        config: the backbone.
        training: how it is trained.
        shape: of the backbone.
        trained: number of its layers that are.
        longest: tokens of the longest sequence.
    """
    layer = 34 * shape.width + 3 * (6 * shape.width + shape.inner)
    layer += shape.score_bytes(longest)
    weights = weight_bytes(config, shape)
    if training.epochs == 0:
        return weights + max(config.batch_tokens, longest) * layer
    tokens = max(training.batch_tokens, longest)
    kept = 2 * shape.width * trained + layer if training.gradient_checkpointing else layer * trained
    if training.gradient_checkpointing and config.quantization == "int8":
        kept += 2 * (3 * shape.width + shape.inner) * trained
    return weights + 14 * training.rank * shape.projections * trained + tokens * kept


def probe_memory(training: JudgeConfig, shape: Shape, battles: int) -> float:
    """Bytes that the probe takes from which a head starts: all states, and those of two folds.

    Args:
        training: which states the head reads.
        shape: of the backbone.
        battles: that a judge learns from, in both orders.
    """
    states = states_of(training, len(training.depths))
    return 2 * battles * states * shape.width * 4 * (1 + (FOLDS - 1) / FOLDS)


def estimate_finetuning(
    train: Pairs,
    predict: Pairs,
    test: Pairs | None,
    val_masks: Sequence[np.ndarray],
    config: BackboneConfig,
    training: JudgeConfig,
    *,
    average: bool,
    folder: Path | None = None,
) -> list[str]:
    """Steps, tokens, memory and time of a fine-tuning, for people.

    Args:
        train: the training battles, packed for training.
        predict: the same, packed for prediction.
        test: the test battles, packed for prediction, if there are any.
        val_masks: what each judge leaves out, bool (n,) each.
        config: the backbone.
        training: how it is trained.
        average: whether one mean judge reads the test battles, and not every judge.
        folder: where the lower layers' output will be written, if its disk is to be asked.

    Raises:
        UserError: neither the backbone's sizes nor its number of parameters are known, or the disk
            has too little room.
    """
    shape = shape_of(config)
    tokens = Tokens.of(train, predict, test, val_masks, training, average=average)
    layers = LayerRange.of(training.depths, training.top_layers, shape.layers)
    trained = layers.end - layers.begin
    rows = [int((~out).sum()) for out in val_masks]
    longest = max((len(s.ids) for s in (*train.forward, *train.swapped)), default=0)
    memory = gpu_memory(config, training, shape, trained, longest)
    probe = probe_memory(training, shape, max(rows, default=0))
    batch = training.batch_tokens if training.epochs else config.batch_tokens
    lines = [
        f"  battles {len(train.ids):,}, tokens of both orders {train.tokens:,} in training "
        f"(longest sequence {longest:,}), {predict.tokens:,} in prediction; truncated "
        f"{(train.cut > 0).mean() if len(train.cut) else 0.0:.1%}",
        *(
            f"  judge {k + 1} of {len(val_masks)}: {count:,} battles, "
            f"{steps_of(count, training):,} steps; leaves out {len(train.ids) - count:,}"
            for k, count in enumerate(rows)
        ),
        f"  tokens: training {tokens.learned:,}, reading {tokens.frozen + tokens.queried:,}"
        + (f", lower layers once {tokens.lower:,}" if tokens.lower else ""),
        f"  LoRA {training.rank * shape.projections * trained:,} parameters of rank "
        f"{training.rank}",
        f"  memory of a GPU: {memory / 2**30:.1f} GiB in batches of {batch:,} tokens"
        + (f", {memory / 2**31:.1f} GiB each on two" if config.device_map == "auto" else "")
        + f"; before, for the probe that a head starts from, {probe / 2**30:.1f} GiB",
        time_line(tokens, train, layers, config, training, memory, len(val_masks)),
    ]
    if tokens.lower:
        width = shape.width * (4 if config.dtype == "float32" else 2)
        if folder is not None:
            stored = sum(map(bytes_below, folder.glob("lower-*")))
            check_room(folder, tokens.lower * width - stored)
        lines.append(
            f"  disk for the lower layers' output: {tokens.lower:,} tokens x {width:,} bytes = "
            f"{tokens.lower * width / 2**30:,.1f} GiB"
        )
    return [*([f"  {shape.note}"] if shape.note else []), *lines]


def time_line(
    tokens: Tokens,
    train: Pairs,
    layers: LayerRange,
    config: BackboneConfig,
    training: JudgeConfig,
    memory: float,
    judges: int,
) -> str:
    """How long a fine-tuning takes on this machine, for people: measured where the model is here.

    Every card reads; a judge is trained by one card, so judges are trained as many at a time as
    there are cards.

    Args:
        tokens: that are trained on and read.
        train: the training battles, some of which are timed.
        layers: of a judge.
        config: the backbone.
        training: how it is trained.
        memory: bytes that training takes.
        judges: how many are trained.

    Raises:
        UserError: the backbone cannot be loaded.
    """
    reason = unmeasurable(config, memory) if train.ids else "there are no battles"
    if reason:
        return f"  time: not measured, for {reason}"
    reading, learning = seconds_per_token(train, config, training)
    # Judges read with their own layers only, and the frozen states need all of them.
    share = (layers.end - layers.begin) / layers.end
    cards = cards_that_read(config)
    read = reading * (max(tokens.frozen, tokens.lower) + share * tokens.queried) / cards
    learned = learning * tokens.learned * ceil(judges / cards) / judges
    return (
        f"  time on this machine: {duration(read + learned)}, training {duration(learned)} and "
        f"reading {duration(read)} (measured just now on some battles"
        + (f" by one card; {cards} will work)" if cards > 1 else ")")
    )


def seconds_per_token(
    train: Pairs, config: BackboneConfig, training: JudgeConfig
) -> tuple[float, float]:
    """Seconds a token of reading with all layers, and of training, by those of some battles.

    Args:
        train: the training battles, at least one.
        config: the backbone.
        training: how it is trained; without an epoch no training is timed.

    Raises:
        UserError: the backbone cannot be loaded.
    """
    lengths = np.array([len(s.ids) for s in train.forward])
    places = np.linspace(0, len(lengths) - 1, TIMED_BATTLES + 1).round().astype(int)
    rows = np.unique(np.argsort(lengths, kind="stable")[places])
    config = with_room(config, training.longest)
    states = PairStates(config, training.read_layers, training.pool, training.top_layers, shared={})
    # The first pass is slower than all others.
    states.fill(distinct(train.take(rows[:1]))[:1])
    seconds, count = 0.0, 0
    for row in rows:
        sequences = states.store.missing(distinct(train.take(np.array([row]))))
        start = time.perf_counter()
        states.fill(sequences)
        seconds += time.perf_counter() - start
        count += sum(len(s.ids) for s in sequences)
        if seconds > ENOUGH_SECONDS / 2:
            break
    reading = seconds / max(count, 1)
    if training.epochs == 0:
        return reading, 0.0
    timed = train.take(rows[: 1 if seconds > ENOUGH_SECONDS / 2 else None])
    states.fill_lower(distinct(timed))
    targets = np.full((len(timed.ids), 3), 1 / 3, dtype=np.float32)
    dataset = JudgeDataset(timed, targets, timed.ids)
    once = replace(training, batch=len(timed.ids), epochs=1)
    judge = Judge(load_backbone(config, trains=True, layers=states.layers.end), once)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(judge, dataset, once, Path(folder), states.inputs)
        trainer.run(1, "timing a step")
    return reading, trainer.seconds / timed.tokens
