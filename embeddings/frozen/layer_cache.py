"""The lower layers of a backbone, read once: their output on disk, training on the layers above.

Frozen layers give the same states in every epoch and fold. They are stored in the dtype in which
the backbone computes, so that the layers above see the very numbers they would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from common.errors import Code, UserError
from common.files import free_bytes
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.layers import first_pass, keep
from embeddings.backbone.load import Backbone, model_config, model_folder
from embeddings.backbone.quantization import DTYPE_BYTES
from embeddings.prompts.pairs import PackedPair


class LowerLayers:
    """The layers of a backbone below the first that is trained."""

    def __init__(self, backbone: Backbone, layers: int) -> None:
        """Leave ``backbone`` its lowest ``layers`` layers, in place."""
        self.device, self.batch_tokens = backbone.device, backbone.batch_tokens
        self._decoder = backbone.decoder
        keep(self._decoder, slice(0, layers))
        # What the layers above take is not normalised.
        self._decoder.norm = torch.nn.Identity()
        first_pass(self._decoder, self.device)

    def read(self, batch: Sequence[PackedPair]) -> list[torch.Tensor]:
        """The output of sequences, (tokens, d) each in the backbone's dtype."""
        ids = [torch.from_numpy(s.ids).long() for s in batch]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(self.device)
        with torch.inference_mode():
            states = self._decoder(input_ids=padded, use_cache=False).last_hidden_state.cpu()
        return [states[row, : len(s.ids)] for row, s in enumerate(batch)]


def bytes_per_token(config: BackboneConfig) -> int:
    """Bytes of the lower layers' output of one token.

    Raises:
        UserError: the backbone cannot be had.
    """
    width = model_config(model_folder(config, weights=False)).hidden_size
    return int(width * DTYPE_BYTES[config.dtype])


def check_room(folder: Path, needed: int) -> None:
    """Check that the disk of a folder, which may still have to be made, has room for the output.

    Args:
        folder: where it will be written.
        needed: bytes that it takes, less those that are there.

    Raises:
        UserError: it has not.
    """
    free = free_bytes(folder)
    if needed > free:
        raise UserError(
            Code.DISK_TOO_SMALL,
            f"{folder}: the lower layers' output takes {needed / 2**30:,.1f} GiB, and "
            f"{free / 2**30:,.1f} are free. Make room, lower max_tokens, or set top_layers 0.",
        )
