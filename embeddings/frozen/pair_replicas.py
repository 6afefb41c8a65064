"""Models that read pairs, in this process or in a worker process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.layers import LayerRange, first_pass
from embeddings.backbone.load import load_backbone
from embeddings.cache.shards import ShardStore, ragged
from embeddings.frozen.layer_cache import LowerLayers
from embeddings.frozen.pair_reader import Inputs, PairReader, token_ids
from embeddings.inference import BatchBudget
from embeddings.prompts.pairs import PackedPair
from embeddings.replicas import Replica


def load_pair_reader(config: BackboneConfig, layers: LayerRange, pool: str) -> PairReader:
    """Load a backbone for ``PairReader``, made ready for several threads.

    Raises:
        UserError: the backbone cannot be loaded.
    """
    reader = PairReader(load_backbone(config, layers=layers.end), layers, pool)
    first_pass(reader.decoder, reader.device)
    return reader


def pair_replica(reader: PairReader, inputs: Inputs) -> Replica[PackedPair, torch.Tensor]:
    """What reads the frozen states of pairs."""
    return Replica(partial(reader.read, inputs=inputs), BatchBudget(reader.batch_tokens), _stacked)


def inputs_from(lower: Path | None) -> Inputs:
    """``PairStates.inputs`` in a worker process: token ids, or what lies in a folder."""
    if lower is None:
        return token_ids
    store = ShardStore(lower)
    return lambda sequence: store.get(sequence.key)


def worker_replica(
    load: Callable[[], PairReader], lower: Path | None
) -> Replica[PackedPair, torch.Tensor]:
    """What a worker process reads frozen states with.

    Args:
        load: loads the backbone there.
        lower: where the lower layers' output lies, if there are lower layers.
    """
    return pair_replica(load(), inputs_from(lower))


def lower_replica(config: BackboneConfig, layers: int) -> Replica[PackedPair, torch.Tensor]:
    """Load what reads the output of a backbone's lowest ``layers`` layers.

    Raises:
        UserError: the backbone cannot be loaded.
    """
    reader = LowerLayers(load_backbone(config, layers=layers), layers)
    return Replica(reader.read, BatchBudget(reader.batch_tokens), ragged)


def _stacked(items: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"states": torch.stack(list(items))}
