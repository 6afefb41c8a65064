"""The states of pairs in a decoder: one sequence of prompt, answer A and answer B, several layers.

Of each layer the last token's state, the mean over each answer's tokens, and the size of the
difference of the two, which a linear head cannot form. Their places are counted from the sequence's
begin, never from a padding or end-of-sequence id. Padding stands on the right and there is no mask:
attention looks left, so no state that is read can see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from embeddings.backbone.layers import HiddenStateHooks, LayerRange
from embeddings.backbone.load import Backbone
from embeddings.prompts.pairs import PackedPair

Inputs = Callable[[PackedPair], torch.Tensor]
"""What the decoder gets of a sequence: token ids, int64 (n,), or states of its lower layers,
(n, d)."""

LAST_TOKEN, BOTH_ANSWERS = "last", "answers"
"""What is pooled: the last token alone, or the answers besides."""

HALF = torch.finfo(torch.float16).max


def token_ids(sequence: PackedPair) -> torch.Tensor:
    """The token ids of a sequence, int64 (n,)."""
    return torch.from_numpy(sequence.ids).long()


class PairReader:
    """Reads pairs with the layers of a backbone that are needed; the others are dropped."""

    def __init__(self, backbone: Backbone, layers: LayerRange, pool: str) -> None:
        """Change ``backbone`` in place.

        Args:
            backbone: whose states are read.
            layers: which are kept, and the depths that are read.
            pool: ``LAST_TOKEN`` or ``BOTH_ANSWERS``.
        """
        self.device, self.batch_tokens = backbone.device, backbone.batch_tokens
        self.dtype = backbone.dtype
        self.autocasts = self.dtype != torch.float32
        layers.cut(backbone)
        self.decoder, self.pool = backbone.decoder, pool
        self.depths = [depth - layers.begin for depth in layers.reads]
        self.hooks = HiddenStateHooks(self.decoder, [d for d in self.depths[:-1] if d])

    def states(self, batch: Sequence[PackedPair], inputs: Inputs = token_ids) -> torch.Tensor:
        """The states of a batch, float32.

        Returns:
            Of each depth, one after the other, (n, 1, d), or (n, 4, d) with both answers: the last
            token, the mean of the first answer, that of the second, and the size of their
            difference (``embeddings.frozen.pair_states.STATES``).
        """
        rows = [self._in_own_dtype(inputs(s)) for s in batch]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device)
        name = "inputs_embeds" if padded.is_floating_point() else "input_ids"
        with torch.autocast(
            self.device.type,
            self.dtype if self.autocasts else None,
            enabled=self.autocasts,
            # The cache is one for all threads, and holds parts of their graphs.
            cache_enabled=False,
        ):
            output, between = self.hooks.during(
                lambda: self.decoder(**{name: padded}, use_cache=False)
            )
        by_depth = {0: padded, **between, self.depths[-1]: output.last_hidden_state}
        pooled = [self._pooled(batch, by_depth[depth].to(self.device)) for depth in self.depths]
        return torch.cat(pooled, dim=1)

    def read(self, batch: Sequence[PackedPair], inputs: Inputs) -> list[torch.Tensor]:
        """``states`` without gradients, for ``embeddings.inference``; float16."""
        with torch.inference_mode():
            # What is infinite stays so, what float16 cannot hold does not become it.
            states = self.states(batch, inputs)
            return list(torch.where(states.isinf(), states, states.clamp(-HALF, HALF)).half().cpu())

    def _in_own_dtype(self, inputs: torch.Tensor) -> torch.Tensor:
        """States of lower layers, which another card may have read in another dtype."""
        return inputs.to(self.dtype) if inputs.is_floating_point() else inputs

    def _pooled(self, batch: Sequence[PackedPair], states: torch.Tensor) -> torch.Tensor:
        """The pooled states of one depth, float32 (n, 1 or 4, d)."""
        pooled = []
        for row, sequence in enumerate(batch):
            vectors = [states[row, len(sequence.ids) - 1].float()]
            if self.pool == BOTH_ANSWERS:
                for answer in (1, 2):
                    own = torch.from_numpy(np.flatnonzero(sequence.owner == answer))
                    vectors.append(states[row, own.to(states.device)].float().mean(dim=0))
                vectors.append((vectors[1] - vectors[2]).abs())
            pooled.append(torch.stack(vectors))
        return torch.stack(pooled)
