"""Pooling: from the hidden states of a sequence's tokens to one vector an answer.

A pooling is a mean over some of the tokens, and one function here: the positions of these. All are
kept for every kept layer, as slots ``layer<n>.<pooling>`` in the order of registration; another set
of poolings makes another store.

On a GPU all means of a batch are one product of weights and states, and the weights are uploaded
once. A CPU, which reads one sequence at a time, takes the rows that are meant: a product would sum
in another order, and stored states would differ in last bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from embeddings.backbone.device import upload
from embeddings.prompts.answers import PackedAnswer

Pooling = Callable[[PackedAnswer], np.ndarray]
"""Of an answer: positions in its sequence, int (k,); none: ``last`` stands for their mean."""

POOLINGS: dict[str, Pooling] = {}
"""Every pooling, by name."""


def register(pooling: Pooling) -> Pooling:
    """Make a pooling known by its function's name."""
    POOLINGS[pooling.__name__] = pooling
    return pooling


@register
def mean(answer: PackedAnswer) -> np.ndarray:
    """The answer's content tokens, all its turns."""
    return answer.content


@register
def last(answer: PackedAnswer) -> np.ndarray:
    """The last content token of the last turn, never an end-of-turn token or padding.

    Where the last turn is empty, it is the token before it.
    """
    return np.array([answer.last])


@register
def prompt(answer: PackedAnswer) -> np.ndarray:
    """The prompt's tokens, all its turns."""
    return answer.prompt


def slot_names(layers: Sequence[int]) -> list[str]:
    """Names of the pooled states in their order, such as ``layer18.mean``."""
    return [f"layer{n}.{name}" for n in layers for name in POOLINGS]


def pooled_states(layers: Sequence[torch.Tensor], answers: Sequence[PackedAnswer]) -> torch.Tensor:
    """All slots of a batch, float16 (n, slots, d), clamped to its range; not finite becomes NaN.

    Args:
        layers: states of the kept layers, (n, longest, d) each, padding included.
        answers: what was read, n.
    """
    positions = [
        [
            chosen if len(chosen := pooling(answer)) else last(answer)
            for pooling in POOLINGS.values()
        ]
        for answer in answers
    ]
    pooled = torch.cat(means(layers, positions), dim=1)
    limit = torch.finfo(torch.float16).max
    return pooled.where(pooled.isfinite(), torch.nan).clamp(-limit, limit).half()


def means(
    layers: Sequence[torch.Tensor], positions: Sequence[Sequence[np.ndarray]]
) -> list[torch.Tensor]:
    """Means of states over tokens, of every layer float32 (n, k, d) on the last layer's device.

    Args:
        layers: states, (n, longest, d) each; they may lie on several cards.
        positions: of each sequence k sets of positions, none of them empty.
    """
    where = layers[-1].device
    if where.type == "cpu":
        return [_of_rows(states, positions) for states in layers]
    weights = mean_weights(positions, layers[-1].shape[1])
    on_card = {device: upload(weights, device) for device in {s.device for s in layers}}
    return [weighted(states, on_card[states.device]).to(where) for states in layers]


def _of_rows(states: torch.Tensor, positions: Sequence[Sequence[np.ndarray]]) -> torch.Tensor:
    """Means by taking the rows that are meant."""
    return torch.stack(
        [
            torch.stack([_mean(row, torch.from_numpy(chosen)) for chosen in sets])
            for row, sets in zip(states, positions, strict=True)
        ]
    )


def _mean(states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    chosen = states[rows].float()
    # A mean of one is not always the one: it makes 0 of -0.
    return chosen[0] if len(chosen) == 1 else chosen.mean(dim=0)


def mean_weights(positions: Sequence[Sequence[np.ndarray]], longest: int) -> torch.Tensor:
    """What a product of means has of every token: float32 (n, k, longest), rows that sum to 1.

    Args:
        positions: as for :func:`means`.
        longest: tokens of each sequence, padding included.
    """
    weights = np.zeros((len(positions), len(positions[0]), longest), np.float32)
    for item, sets in zip(weights, positions, strict=True):
        for row, chosen in zip(item, sets, strict=True):
            row[chosen] = 1 / len(chosen)
    return torch.from_numpy(weights)


def weighted(states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The product of weights (n, k, tokens) and states (n, tokens, d), float32 (n, k, d).

    A token that no weight of its sequence names has no say, whatever its state: padding may be
    infinite.
    """
    used = (weights != 0).any(dim=1).unsqueeze(2)
    return torch.bmm(weights, torch.where(used, states, 0).float())
