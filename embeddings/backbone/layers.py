"""Layers of a decoder: which of them are used, and the hidden states between them.

A depth is a number of layers: 0 is the decoder's input, the number of its layers its output.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from common.errors import Code, UserError
from embeddings.backbone.load import Backbone

Output = TypeVar("Output")


def layer_numbers(fractions: Sequence[float], layers: int) -> list[int]:
    """Depths as layer numbers from 1 to ``layers``, ascending, each once."""
    return sorted({max(1, round(f * layers)) for f in fractions})


@dataclass(frozen=True)
class LayerRange:
    """The layers of a judge.

    Attributes:
        begin: depth at which they begin; what lies below is read once and stored.
        end: depth at which they end; what lies above is dropped.
        reads: depths whose states the head reads, ascending; the last is ``end``.
    """

    begin: int
    end: int
    reads: tuple[int, ...]

    @classmethod
    def of(cls, depths: Sequence[float], top_layers: int, total: int) -> LayerRange:
        """The layers that a judge needs of a backbone.

        Args:
            depths: fractions of the backbone's depth whose states the head reads.
            top_layers: how many layers are trained; 0: all.
            total: the backbone's layers.

        Raises:
            UserError: the backbone has too few layers, or the head would read below the span.
        """
        reads = layer_numbers(depths, total)
        end, top = reads[-1], top_layers
        if top >= end:
            raise UserError(
                Code.LAYERS_INVALID,
                f"The backbone has {total} layers, and {end} are used. top_layers must be less, "
                "or 0 to train all.",
            )
        begin = end - top if top else 0
        if reads[0] < begin:
            raise UserError(
                Code.LAYERS_INVALID,
                f"read_layers names layer {reads[0]}, which lies below the {top} trained ones "
                f"under layer {end}. Raise top_layers to {end - reads[0]}.",
            )
        return cls(begin, end, tuple(reads))

    def cut(self, backbone: Backbone) -> None:
        """Drop a backbone's other layers; without the last one, its output is not normalised.

        Those above ``end`` need not have been loaded.
        """
        keep(backbone.decoder, slice(self.begin, self.end))
        if self.end < backbone.depth:
            backbone.decoder.norm = torch.nn.Identity()


def keep(decoder: Any, kept: slice) -> None:
    """Drop all other layers of a decoder."""
    decoder.layers = decoder.layers[kept]
    # A layer in nf4 refers to itself (bitsandbytes' Params4bit.module).
    gc.collect()
    decoder.config.num_hidden_layers = len(decoder.layers)
    # Gemma-2 and Qwen2 look up the mask of layer i by its place.
    if getattr(decoder.config, "layer_types", None):
        decoder.config.layer_types = decoder.config.layer_types[kept]


def first_pass(decoder: Any, device: torch.device) -> None:
    """Read two tokens with a decoder that several threads will read with, and not train.

    bitsandbytes rearranges weights in their first pass, which no two threads may do at once.
    """
    with torch.inference_mode():
        decoder(input_ids=torch.tensor([[0, 1]], device=device), use_cache=False)


class HiddenStateHooks:
    """Hidden states between the layers of a decoder, of each thread's own pass."""

    def __init__(self, decoder: Any, depths: Sequence[int]) -> None:
        """Watch the outputs at ``depths``, each above 0 and below the number of layers."""
        # Threads share the model and its hooks.
        self._seen = threading.local()
        for depth in depths:
            decoder.layers[depth - 1].register_forward_hook(self._keep(depth))

    def during(self, run: Callable[[], Output]) -> tuple[Output, dict[int, torch.Tensor]]:
        """The result of ``run``, and the states (n, tokens, d) of its pass by depth.

        No state is kept afterwards, not even of a pass that ran out of memory.
        """
        try:
            output = run()
            return output, {int(depth): states for depth, states in vars(self._seen).items()}
        finally:
            vars(self._seen).clear()

    def _keep(self, depth: int) -> Callable[..., None]:
        def hook(_: Any, __: Any, output: Any) -> None:
            vars(self._seen)[str(depth)] = output[0] if isinstance(output, tuple) else output

        return hook
