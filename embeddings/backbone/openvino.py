"""The decoder in OpenVINO, on a CPU: weights laid out once, norms and attention fused.

The model is traced with one sequence behind the shared prefix, whose keys and values become
constants, and converted in memory. Each thread reads one sequence at a time, unpadded, on a core
of its own: the numbers of a sequence depend on neither mates nor cores.
"""

from __future__ import annotations

import copy
import logging
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from common.errors import Code, UserError, first_line
from embeddings.backbone.runtime import TorchEngine

# Where this package is there, importing openvino and converting a model is told to its makers.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402

PRECISION = {"bfloat16": "bf16", "float32": "f32"}


class _Rotary(torch.nn.Module):
    """Rotary embedding of the positions behind the shared prefix, as constants.

    In bfloat16, which holds no odd number above 256, OpenVINO would round the positions.
    """

    def __init__(self, source: TorchEngine) -> None:
        super().__init__()
        backbone = source.backbone
        positions = torch.arange(len(source.shared_prefix), backbone.config.max_tokens)[None]
        like = torch.empty(0, dtype=backbone.model.dtype)
        self.cos, self.sin = backbone.decoder.rotary_emb(like, positions)

    def forward(
        self, states: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of as many positions as there are states, each (1, n, head size)."""
        return self.cos[:, : states.shape[1]], self.sin[:, : states.shape[1]]


class _Traced(torch.nn.Module):
    """One sequence behind the shared prefix, as a function of its ids alone."""

    def __init__(self, engine: TorchEngine) -> None:
        super().__init__()
        self.engine, self.decoder = engine, engine.backbone.decoder
        self.cache = engine.cache_of_prefix(1) if len(engine.shared_prefix) else None

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """States of the kept layers, then the final one."""
        # Given a mask, transformers traces the causal one for any length.
        mask = torch.ones((1, len(self.engine.shared_prefix) + ids.shape[1]), dtype=torch.long)
        cache = copy.copy(self.cache)
        if cache is not None:
            # A pass gives each layer new keys and values, and must not grow those of the next one.
            cache.layers = [copy.copy(layer) for layer in cache.layers]
        return tuple(states.float() for states in self.engine.decode(ids, mask, cache))


class OpenVinoEngine:
    """A backbone's decoder, converted and compiled."""

    def __init__(self, source: TorchEngine) -> None:
        """Convert the decoder of ``source``.

        Raises:
            UserError: OpenVINO cannot do it.
        """
        self.source = source
        dtype = source.backbone.config.dtype
        try:
            self._model = _compile(_convert(source), PRECISION[dtype])
        # Whatever goes wrong in a tracer or a compiler is nothing that this code could fix.
        except Exception as error:
            first = first_line(error)
            raise UserError(
                Code.OPENVINO_UNAVAILABLE,
                f"backbone {source.backbone.config.name}: OpenVINO cannot run it ({first}). Take "
                "--engine torch.",
            ) from error
        self._own = threading.local()

    def states(self, sequences: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """See ``Engine``; the sequences are read one after the other."""
        read = [self._read(sequence) for sequence in sequences]
        if len(read) == 1:
            return read[0]
        return [
            torch.nn.utils.rnn.pad_sequence([s[0] for s in layer], batch_first=True)
            for layer in zip(*read, strict=True)
        ]

    def _read(self, sequence: np.ndarray) -> list[torch.Tensor]:
        if not hasattr(self._own, "request"):
            self._own.request = self._model.create_infer_request()
        before = len(self.source.shared_prefix)
        outputs = self._own.request.infer([sequence[None, before:].astype(np.int64)])
        # The next sequence is read into the same memory.
        rest = [torch.from_numpy(outputs[i].copy()) for i in range(len(outputs))]
        return self.source.with_prefix(rest) if before else rest


def _convert(source: TorchEngine) -> Any:
    """The traced decoder as an OpenVINO model of ids, int64 (1, any length)."""
    example = torch.arange(8)[None]
    decoder = source.backbone.decoder
    rotary = decoder.rotary_emb
    log = logging.getLogger("openvino")
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer names every Python value on which the model branches.
        warnings.simplefilter("ignore")
        level = log.level
        log.setLevel(logging.ERROR)
        decoder.rotary_emb = _Rotary(source)
        try:
            return ov.convert_model(
                _Traced(source), example_input=(example,), input=[([1, -1], ov.Type.i64)]
            )
        finally:
            log.setLevel(level)
            decoder.rotary_emb = rotary


def _compile(model: Any, precision: str) -> Any:
    threads = torch.get_num_threads()
    return ov.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            # Bound to a core, a stream would wait there for whatever else the machine runs.
            "ENABLE_CPU_PINNING": False,
        },
    )
