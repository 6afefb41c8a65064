"""Judges that predict, in this process or in a worker process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.load import load_backbone
from embeddings.cache.shards import ragged
from embeddings.cache.tensor_files import read_tensors
from embeddings.frozen.pair_reader import Inputs
from embeddings.frozen.pair_replicas import inputs_from
from embeddings.inference import BatchBudget
from embeddings.judge.config import JudgeConfig
from embeddings.judge.model import Judge
from embeddings.prompts.pairs import PackedPair
from embeddings.replicas import Replica


def untrained(config: BackboneConfig, training: JudgeConfig, layers: int) -> Judge:
    """Load the backbone of a judge up to the last of ``layers``, which its head reads.

    Raises:
        UserError: it cannot be loaded.
    """
    return Judge(load_backbone(config, layers=layers), training)


def judge_replica(
    judge: Judge,
    weights: Mapping[str, torch.Tensor],
    inputs: Inputs,
    first: Sequence[PackedPair],
) -> Replica[PackedPair, torch.Tensor]:
    """What reads with a trained judge.

    Args:
        judge: of the backbone; it takes the weights.
        weights: as ``Judge.save`` wrote them.
        inputs: what its layers get of a sequence.
        first: of a quantized backbone one sequence, to be read before threads do; else none.
    """
    read = partial(judge.load(weights).read, inputs=inputs)
    if first:
        # bitsandbytes rearranges weights in their first pass: no two threads may do that.
        read(first)
    return Replica(read, BatchBudget(judge.batch_tokens), ragged)


def worker_replica(
    load: Callable[[], Judge], weights: Path, lower: Path | None, first: Sequence[PackedPair]
) -> Replica[PackedPair, torch.Tensor]:
    """What a worker process reads with.

    Args:
        load: loads the judge there.
        weights: file of its weights.
        lower: where the lower layers' output lies, if there are lower layers.
        first: as ``judge_replica`` has it.

    Raises:
        DamagedError: the weights are damaged.
    """
    tensors, _ = read_tensors(weights, unsigned=True)
    return judge_replica(load(), tensors, inputs_from(lower), first)
