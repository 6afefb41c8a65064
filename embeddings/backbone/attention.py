"""Attention for cards and dtypes that PyTorch's flash attention does not take.

Where keys and values have fewer heads than queries, transformers lets the kernel share them, which
flash attention alone can: before Ampere, and in float32, PyTorch then falls to a kernel that stores
all scores, in float32. With keys and values repeated the memory-efficient kernel runs.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from embeddings.backbone.device import BFLOAT16, Card

SDPA, REPEATED = "sdpa", "sdpa_repeated"


def repeated_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **how: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers' ``sdpa``, with a key and a value for every query head.

    Args:
        module: the attention layer.
        query: (n, heads, tokens, d).
        key: (n, heads or fewer, tokens, d).
        value: as ``key``.
        attention_mask: what may be seen, or ``None`` for all before.
        how: the other arguments of transformers' attention functions.

    Returns:
        (n, tokens, heads, d), and no scores.
    """
    groups = query.shape[1] // key.shape[1]
    # Without the layer's number of groups transformers takes the heads to be as many.
    alike = SimpleNamespace(is_causal=getattr(module, "is_causal", True))
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    states, _ = sdpa_attention_forward(alike, query, key, value, attention_mask, **how)
    return states, None


def fit_attention(model: Any, cards: list[Card]) -> None:
    """Let a model that takes PyTorch's fused attention repeat its keys where the cards need that.

    Args:
        model: a transformers model; changed in place.
        cards: on which it lies; none on a CPU.
    """
    old = any(card.capability < BFLOAT16 for card in cards)
    if (
        cards
        and model.config._attn_implementation == SDPA
        and (old or model.dtype == torch.float32)
    ):
        AttentionInterface.register(REPEATED, repeated_attention)
        AttentionMaskInterface.register(REPEATED, sdpa_mask)
        model.set_attn_implementation(REPEATED)
