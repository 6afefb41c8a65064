"""What runs a backbone's decoder: PyTorch, or OpenVINO on a CPU (``openvino.py``).

An engine gives the states of the kept layers and the final ones of sequences that all begin with
the same shared prefix. On a CPU that prefix is read once, and stands before every sequence as keys
and values. On a GPU it is read with each sequence: behind a cache attention needs a mask, with
which PyTorch has no flash attention, and the keys and values of all layers are kept.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from transformers import DynamicCache

from common.errors import Code, UserError
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import upload
from embeddings.backbone.layers import HiddenStateHooks
from embeddings.backbone.load import Backbone, model_config, model_folder
from embeddings.backbone.quantization import NONE

TORCH, OPENVINO, AUTO = "torch", "openvino", "auto"
ENGINES = (TORCH, OPENVINO)

ARCHITECTURES = ("gemma2", "llama", "qwen2")
"""Model types that OpenVINO is tested with."""

ROTARY = ("default", "linear", "llama3")
"""Rotary embeddings whose angles do not depend on the sequence's length."""

INSTALL = "pip install openvino==2026.4.1"


class Engine(Protocol):
    """Runs the decoder; called from several threads at once on a CPU."""

    def states(self, sequences: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """States of the kept layers in their order, then the final one; each (n, longest, d).

        The state of layer k is the output of the k-th decoder layer; that of the last layer is the
        final one, after the model's last norm.

        Args:
            sequences: token ids that begin with the shared prefix, int32 (length,), n of them.
        """
        ...


class TorchEngine:
    """The model as transformers runs it."""

    def __init__(
        self, backbone: Backbone, numbers: Sequence[int], shared_prefix: np.ndarray
    ) -> None:
        """Read the shared prefix.

        Args:
            backbone: the model.
            numbers: layers whose states are kept, from 1.
            shared_prefix: tokens with which every sequence begins, int32; may be empty.
        """
        cached = shared_prefix if backbone.device.type == "cpu" else shared_prefix[:0]
        self.backbone, self.numbers, self.shared_prefix = backbone, numbers, cached
        self._between = HiddenStateHooks(
            backbone.decoder, [n for n in numbers if n < len(backbone.decoder.layers)]
        )
        self._keys_and_values: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.prefix_states: list[torch.Tensor] = []
        if len(cached):
            cache = DynamicCache(config=backbone.model.config)
            with torch.inference_mode():
                self.prefix_states = self._run([cached], cache)
            self._keys_and_values = [(layer.keys, layer.values) for layer in cache.layers]

    def states(self, sequences: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """See ``Engine``."""
        if not len(self.shared_prefix):
            return self._run(sequences, None)
        cache = self.cache_of_prefix(len(sequences))
        rest = self._run([sequence[len(self.shared_prefix) :] for sequence in sequences], cache)
        return self.with_prefix(rest)

    def cache_of_prefix(self, n: int) -> DynamicCache:
        """A cache that holds the shared prefix's keys and values for ``n`` sequences."""
        cache = DynamicCache(config=self.backbone.model.config)
        for number, (keys, values) in enumerate(self._keys_and_values):
            cache.update(keys.expand(n, -1, -1, -1), values.expand(n, -1, -1, -1), number)
        return cache

    def with_prefix(self, rest: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """States with those of the shared prefix before them."""
        return [
            torch.cat([before.expand(len(after), -1, -1), after], dim=1)
            for before, after in zip(self.prefix_states, rest, strict=True)
        ]

    def _run(
        self, sequences: Sequence[np.ndarray], cache: DynamicCache | None
    ) -> list[torch.Tensor]:
        """One pass of the decoder over sequences that stand behind ``cache``.

        Padding stands on the right: attention looks left, so content cannot see it.
        """
        ids = [torch.from_numpy(sequence.astype(np.int64)) for sequence in sequences]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        return self.decode(upload(padded, self.backbone.device), None, cache)

    def decode(
        self, ids: torch.Tensor, mask: torch.Tensor | None, cache: DynamicCache | None
    ) -> list[torch.Tensor]:
        """States of the kept layers, then the final one, of one pass of the decoder.

        Args:
            ids: int64 (n, length).
            mask: of what may be seen, int64 (n, tokens in the cache + length), or None for all.
            cache: what stands before.
        """
        decoder = self.backbone.decoder
        outputs, between = self._between.during(
            lambda: decoder(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                use_cache=cache is not None,
            )
        )
        final = outputs.last_hidden_state
        states = {**between, len(decoder.layers): final}
        return [*(states[n] for n in self.numbers), final]


def select_engine(requested: str, config: BackboneConfig) -> tuple[str, str]:
    """The engine that will run a backbone here, and why it is not OpenVINO.

    Args:
        requested: ``torch``, ``openvino`` or ``auto``: OpenVINO wherever it can run.
        config: the backbone.

    Returns:
        ``torch`` or ``openvino``, and one line for people; empty unless ``auto`` fell back.

    Raises:
        UserError: ``openvino`` was requested and cannot run.
    """
    if requested == TORCH:
        return TORCH, ""
    obstacle = _openvino_obstacle(config)
    if not obstacle:
        return OPENVINO, ""
    if requested == OPENVINO:
        raise UserError(
            Code.OPENVINO_UNAVAILABLE, f"--engine openvino: {obstacle}. Take --engine torch."
        )
    return TORCH, f"engine torch and not openvino: {obstacle}"


def _openvino_obstacle(config: BackboneConfig) -> str:
    """Why OpenVINO cannot run a backbone here; empty if it can."""
    if config.quantization != NONE:
        return f"it does not read {config.quantization} weights of bitsandbytes"
    if config.dtype == "float16":
        return "on a CPU it computes in bfloat16 or float32, not float16"
    if config.attention:
        return f"it has an attention of its own, not {config.attention}"
    if torch.cuda.is_available():
        return "it computes on the CPU, and there is a GPU"
    if importlib.util.find_spec("openvino") is None:
        return f"it is not installed ({INSTALL})"
    model = model_config(model_folder(config, weights=False))
    rotary = getattr(model, "rope_parameters", None) or {}
    if model.model_type not in ARCHITECTURES or rotary.get("rope_type", "default") not in ROTARY:
        return f"it is not tested with {model.model_type} and its rotary embedding"
    return ""


def make_engine(
    name: str, backbone: Backbone, numbers: Sequence[int], shared_prefix: np.ndarray
) -> Engine:
    """Make an engine; the arguments are ``TorchEngine``'s.

    Raises:
        UserError: OpenVINO cannot run this architecture.
    """
    torch_engine = TorchEngine(backbone, numbers, shared_prefix)
    if name == TORCH:
        return torch_engine
    # An optional requirement.
    from embeddings.backbone.openvino import OpenVinoEngine

    return OpenVinoEngine(torch_engine)
