"""The lower layers of a backbone, read once: their output on disk, training on the layers above.

Frozen layers give the same states in every epoch and fold. They are stored in the dtype in which
the backbone computes, so that the layers above see the very numbers they would have seen.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from common.errors import Code, UserError
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.layers import LayerRange, keep
from embeddings.backbone.load import load_backbone
from embeddings.cache.shards import ShardWriter
from embeddings.inference import fill
from embeddings.judge.config import JudgeConfig
from embeddings.prompts import pairs


def fill_lower(
    store: ShardWriter,
    sequences: Sequence[pairs.PackedPair],
    config: BackboneConfig,
    recipe: JudgeConfig,
) -> None:
    """Store the states in which a judge's own layers begin, of sequences that are not there yet.

    Raises:
        UserError: the disk has no room, or the backbone cannot be had.
    """
    todo = store.lacking(sequences)
    if not todo:
        return
    backbone = load_backbone(config)
    decoder = backbone.decoder
    width = backbone.model.get_input_embeddings().embedding_dim
    bytes_needed = sum(len(s.ids) for s in todo) * width * backbone.model.dtype.itemsize
    _check_room(store.folder, bytes_needed)
    keep(
        decoder,
        slice(0, LayerRange.of(recipe.depths, recipe.top_layers, len(decoder.layers)).begin),
    )
    # What the layers above take is not normalised.
    decoder.norm = torch.nn.Identity()

    def read(batch: Sequence[pairs.PackedPair]) -> list[torch.Tensor]:
        ids = [torch.from_numpy(s.ids).long() for s in batch]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(backbone.device)
        with torch.inference_mode():
            states = decoder(input_ids=padded, use_cache=False).last_hidden_state.cpu()
        return [states[row, : len(s.ids)] for row, s in enumerate(batch)]

    fill(store, todo, read, f"{config.name} lower layers", backbone.batch_tokens)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            Code.DISK_TOO_SMALL,
            f"{folder}: the lower layers' output takes {needed / 2**30:,.1f} GiB, and "
            f"{free / 2**30:,.1f} are free: make room, lower max_tokens, or say top_layers 0",
        )
