"""Sizes of a backbone on which its costs depend, known before its weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import AutoConfig, PretrainedConfig

from common.errors import Code, UserError
from common.files import expanded
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.load import model_folder, safetensors_header
from embeddings.backbone.quantization import DTYPE_BYTES, bytes_per_weight


@dataclass(frozen=True)
class Shape:
    """Sizes of a backbone on which its costs depend."""

    layers: int
    width: int
    inner: int
    projections: int
    """Inputs and outputs of a layer's linear projections, summed: LoRA's size over its rank."""
    weights: float
    """Weights of all layers together, without embedding and head."""
    unfused_heads: int
    """Attention heads whose score matrices are stored; 0 where a fused kernel does the work."""
    note: str = ""

    def score_bytes(self, longest: int) -> int:
        """Bytes of the scores of a token that sees ``longest``, where attention is not fused."""
        return 14 * self.unfused_heads * longest


def shape_of(config: BackboneConfig) -> Shape:
    """Sizes from the model's own configuration, else guessed from its number of parameters.

    Raises:
        UserError: neither is known.
    """
    try:
        folder = model_folder(config, weights=False)
        # Without the argument, transformers asks on the terminal whether code may run.
        config_file = AutoConfig.from_pretrained(folder, trust_remote_code=False)  # nosec B615 -- a folder
        return _from_config(config_file.get_text_config(), config.attention)
    # Other architectures have other names for their sizes.
    except (UserError, OSError, ValueError, AttributeError) as error:
        parameters = parameters_of(config)
        if not parameters:
            raise UserError(
                Code.PARAMETERS_UNKNOWN,
                f"backbone {config.name}: an estimate needs `parameters` in its YAML.",
            ) from error
        # 12 d^2 weights a layer and some 33 layers: so in models of all sizes.
        width = round((parameters / 400) ** 0.5)
        guess = f"sizes guessed from {parameters / 1e9:.1f} G parameters"
        note = f"{guess}: no config.json at hand that has them"
        return Shape(33, width, 4 * width, 20 * width, 0.95 * parameters, 0, note)


def _from_config(c: PretrainedConfig, attention: str) -> Shape:
    """Sizes from a configuration; AttributeError where it lacks one.

    Args:
        c: the model's own.
        attention: of the backbone's YAML; PyTorch's fused kernels know no soft-capping.
    """
    head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    queries = c.num_attention_heads * head
    keys = (getattr(c, "num_key_value_heads", None) or c.num_attention_heads) * head
    d, f = c.hidden_size, c.intermediate_size
    unfused = not attention and getattr(c, "attn_logit_softcapping", None) is not None
    return Shape(
        layers=c.num_hidden_layers,
        width=d,
        inner=f,
        projections=2 * (d + queries) + 2 * (d + keys) + 3 * (d + f),
        weights=c.num_hidden_layers * (2 * d * queries + 2 * d * keys + 3 * d * f),
        unfused_heads=c.num_attention_heads if attention == "eager" or unfused else 0,
    )


def weight_bytes(config: BackboneConfig, shape: Shape) -> float:
    """Bytes of a backbone's weights in memory.

    Those of its layers are held as the quantization says; embedding and head stay in the dtype.

    Args:
        config: the backbone.
        shape: its own.
    """
    rest = max(0.0, parameters_of(config) - shape.weights)
    layers = shape.weights * bytes_per_weight(config.quantization, config.dtype)
    return layers + rest * DTYPE_BYTES[config.dtype]


def parameters_of(config: BackboneConfig) -> int:
    """Parameters as the YAML has them, else as a local folder's safetensors headers count them."""
    folder = expanded(config.source)
    if config.parameters or not folder.is_dir():
        return config.parameters
    total = 0
    for path in folder.glob("*.safetensors"):
        tensors = safetensors_header(path)
        total += sum(_size(entry["shape"]) for entry in tensors.values())
    return total


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))
