"""Quantizations: how a model's weights are held in memory. A new one is one entry of this file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NONE = "none"

DTYPE_BYTES = {"bfloat16": 2.0, "float32": 4.0, "float16": 2.0}
"""Bytes of a number by the name of its dtype: of a weight that is not quantized."""


@dataclass(frozen=True)
class Quantization:
    """A way to hold weights.

    Attributes:
        name: in a backbone's YAML and after ``--quantization``.
        load_arguments: gives the keyword arguments of ``AutoModelForCausalLM.from_pretrained``;
            the loader adds the dtype in which 4-bit weights are computed with.
        bytes_per_weight: of the layers' weights, scales included; None: those of the dtype.
    """

    name: str
    load_arguments: Callable[[], dict[str, Any]]
    bytes_per_weight: float | None


QUANTIZATIONS: dict[str, Quantization] = {}
"""Every quantization, by name."""


def register(quantization: Quantization) -> None:
    """Make a quantization known."""
    QUANTIZATIONS[quantization.name] = quantization


def bytes_per_weight(quantization: str, dtype: str) -> float:
    """Bytes that a weight of a layer takes in memory.

    Args:
        quantization: name of one in ``QUANTIZATIONS``.
        dtype: of what is not quantized.
    """
    return QUANTIZATIONS[quantization].bytes_per_weight or DTYPE_BYTES[dtype]


def _nf4() -> dict[str, Any]:
    """4-bit NormalFloat with double quantization (Dettmers et al. 2023, QLoRA), bitsandbytes."""
    # Heavy, and not needed to list names.
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
        )
    }


def _int8() -> dict[str, Any]:
    """LLM.int8 (Dettmers et al. 2022), bitsandbytes."""
    from transformers import BitsAndBytesConfig

    return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}


register(Quantization(NONE, dict, None))
# Of 64 weights nf4 keeps a scale in a byte, and of 256 scales another in four; int8 one a row.
register(Quantization("nf4", _nf4, 0.52))
register(Quantization("int8", _int8, 1.01))
