"""The lower layers of a backbone, read once: their output on disk, training on the layers above.

Frozen layers give the same states in every epoch and fold. They are stored in the dtype in which
the backbone computes, so that the layers above see the very numbers they would have seen.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from arena.errors import UserError
from embeddings import pairs
from embeddings.backbone import Backbone, load_backbone
from embeddings.config import BackboneConfig
from embeddings.reading import fill
from embeddings.store import Writer


def keep_top(backbone: Backbone, count: int) -> None:
    """Drop all but the top ``count`` decoder layers; the decoder then takes their inputs.

    Raises:
        UserError: the backbone has not more layers than that.
    """
    total = len(backbone.decoder.layers)
    if count >= total:
        raise UserError(
            f"backbone {backbone.config.name} has {total} layers: top_layers must be less, or 0 "
            "to train all"
        )
    _keep(backbone.decoder, slice(total - count, total))


def fill_lower(
    store: Writer, sequences: Sequence[pairs.Sequence], config: BackboneConfig, top: int
) -> None:
    """Store the input of the top ``top`` layers of every sequence that is not there yet.

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
    total = len(decoder.layers)
    if not 0 < top < total:
        keep_top(backbone, top)
    _keep(decoder, slice(0, total - top))
    # What the layers above take is not normalised.
    decoder.norm = torch.nn.Identity()

    def read(batch: Sequence[pairs.Sequence]) -> list[torch.Tensor]:
        ids = [torch.from_numpy(s.ids).long() for s in batch]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(backbone.device)
        with torch.inference_mode():
            states = decoder(input_ids=padded, use_cache=False).last_hidden_state.cpu()
        return [states[row, : len(s.ids)] for row, s in enumerate(batch)]

    on_cpu = backbone.device.type == "cpu"
    fill(store, todo, read, f"{config.name} lower layers", 0 if on_cpu else config.batch_tokens)


def _keep(decoder: Any, kept: slice) -> None:
    decoder.layers = decoder.layers[kept]
    decoder.config.num_hidden_layers = len(decoder.layers)
    # Gemma-2 and Qwen2 look up the mask of layer i by its place.
    if getattr(decoder.config, "layer_types", None):
        decoder.config.layer_types = decoder.config.layer_types[kept]


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: the lower layers' output takes {needed / 2**30:,.1f} GiB, and "
            f"{free / 2**30:,.1f} are free: make room, lower max_tokens, or say top_layers 0"
        )
