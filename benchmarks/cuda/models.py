"""Random models of the architectures in ``configs/``: real widths with four layers, or tiny ones.

In each norm eight weights are 20, so that a few coordinates are far larger than the others, as in
trained models: LLM.int8 then has outlier columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.helpers.tiny import EXTRA, SIZES, tiny_tokenizer

ARCHITECTURES = {"G": "gemma2", "L": "llama", "Q": "qwen2"}
"""By the letter that stands for a model in the report."""

OUTLIERS, OUTLIER = 8, 20.0

COMMON = {"num_hidden_layers": 4, "max_position_embeddings": 8192}

REAL: dict[str, dict[str, Any]] = {
    "G": {
        **{"hidden_size": 3584, "intermediate_size": 14336, "vocab_size": 256_000},
        **{"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256},
        **{"query_pre_attn_scalar": 256, "sliding_window": 4096},
        **{"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        "tie_word_embeddings": True,
    },
    "L": {
        **{"hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 128_256},
        **{"num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False},
    },
    "Q": {
        **{"hidden_size": 1536, "intermediate_size": 8960, "vocab_size": 151_936},
        **{"num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True},
    },
}
"""Gemma-2-9B, Llama-3-8B and Qwen2-1.5B, from their ``config.json``."""

REAL_LAYERS = {"G": 42, "L": 32, "Q": 28}
"""Layers of the whole models."""


@dataclass(frozen=True)
class Sizes:
    """How much a check does.

    Attributes:
        real: whether models have real widths.
        longest: tokens of the longest answer.
        batch_tokens: of a batch.
        distance: from float32 that bfloat16 may have; the weights of tiny models are ten times as
            large, so that their logits differ.
        rank: of LoRA.
        battles: that the commands read.
    """

    real: bool
    longest: int
    batch_tokens: int
    distance: float
    rank: int
    battles: int


ON_A_CARD = Sizes(real=True, longest=1900, batch_tokens=16_384, distance=2e-2, rank=64, battles=96)
ON_A_CPU = Sizes(real=False, longest=240, batch_tokens=2_048, distance=4e-2, rank=8, battles=96)


def save_model(folder: Path, letter: str, device: str, *, real: bool) -> None:
    """Save a random bfloat16 model and its tokenizer.

    Args:
        folder: where to.
        letter: of the model, a key of ``ARCHITECTURES``.
        device: where its weights are drawn.
        real: whether it has its real width.
    """
    architecture = ARCHITECTURES[letter]
    tokenizer = tiny_tokenizer(architecture)
    extra: Any = EXTRA[architecture]
    sizes = REAL[letter] if real else {**SIZES, **extra}
    config = AutoConfig.for_model(
        architecture,
        **{**sizes, **COMMON},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith("norm") and getattr(module, "weight", None) is not None:
                places = torch.randperm(len(module.weight))[:OUTLIERS].to(module.weight.device)
                module.weight[places] = OUTLIER
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
