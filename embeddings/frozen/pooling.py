"""Pooling: from the hidden states of a sequence's tokens to one vector an answer.

A pooling is one function here, of the states of one layer and the answer they were read with. All
are kept for every kept layer, as slots ``layer<n>.<pooling>`` in the order of registration; another
set of poolings makes another store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from embeddings.prompts.answers import PackedAnswer

Pooling = Callable[[torch.Tensor, PackedAnswer], torch.Tensor]
"""Of states (tokens, d) in the model's dtype, padding included, and the answer: float32 (d,)."""

POOLINGS: dict[str, Pooling] = {}
"""Every pooling, by name."""


def register(pooling: Pooling) -> Pooling:
    """Make a pooling known by its function's name."""
    POOLINGS[pooling.__name__] = pooling
    return pooling


@register
def mean(states: torch.Tensor, answer: PackedAnswer) -> torch.Tensor:
    """Mean over the answer's content tokens of all its turns; ``last`` where there are none."""
    return _mean_at(states, answer.content, answer)


@register
def last(states: torch.Tensor, answer: PackedAnswer) -> torch.Tensor:
    """State of the last content token of the last turn, never an end-of-turn token or padding.

    Where the last turn is empty, it is the token before it.
    """
    return states[answer.last].float()


@register
def prompt(states: torch.Tensor, answer: PackedAnswer) -> torch.Tensor:
    """Mean over the prompt's tokens of all its turns; ``last`` where there are none."""
    return _mean_at(states, answer.prompt, answer)


def _mean_at(states: torch.Tensor, positions: np.ndarray, answer: PackedAnswer) -> torch.Tensor:
    if not len(positions):
        return last(states, answer)
    return states[torch.from_numpy(positions).to(states.device)].float().mean(dim=0)


def slot_names(layers: Sequence[int]) -> list[str]:
    """Names of the pooled states in their order, such as ``layer18.mean``."""
    return [f"layer{n}.{name}" for n in layers for name in POOLINGS]


def pooled_states(layers: Sequence[torch.Tensor], row: int, answer: PackedAnswer) -> torch.Tensor:
    """All slots of one answer, float16 (slots, d), clamped to its range; not finite becomes NaN.

    Args:
        layers: states of the kept layers, (n, longest, d) each.
        row: of the answer in its batch.
        answer: what was read there.
    """
    slots = [pooling(states[row], answer) for states in layers for pooling in POOLINGS.values()]
    limit = torch.finfo(torch.float16).max
    # Layers may lie on several cards.
    pooled = torch.stack([slot.to(slots[-1].device) for slot in slots])
    return pooled.where(pooled.isfinite(), torch.nan).clamp(-limit, limit).half()
