"""How likely the language model finds an answer: log-probabilities and what is made of them.

Log-probabilities are natural logarithms of a float32 softmax. Only positions that predict a content
token go through the model's head, those of a batch together, some at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from arena.feature_table import Column, FeatureTable
from embeddings.backbone.device import upload
from embeddings.backbone.load import Backbone
from embeddings.prompts.answers import PackedAnswer

HEAD_ROWS = 128
"""Positions through the head at once: 128 x a vocabulary of 256,000 in float32 is 131 MB."""

SOFTMAX_ROWS = 8
"""Of these, rows that a CPU takes to the softmax at once, so that what it computes of them stays in
its caches: five times as fast as 128 at a vocabulary of 49,152, with the same bits."""

GPU_ROWS = 512
"""Both on a GPU, which reads the head from its memory every time."""

QUANTITIES = (
    "mean",
    "sum",
    "worst",
    "entropy",
    "greedy",
    "end",
    "bare",
    "ratio",
    "tokens",
)
"""The numbers of one answer, all given the prompt unless said otherwise:

=========== ====================================================================================
mean        log-probability of a content token, mean
sum         the same, sum
worst       the same, minimum
entropy     entropy of the next-token distribution at the content tokens, mean, in nats
greedy      share of content tokens than which the model found none likelier
end         log-probability that the turn ends after the last content token
bare        mean log-probability of the last turn's first tokens without the prompt, that is, with
            an empty prompt in the same template (minus the log-perplexity)
ratio       mean log-probability of those same tokens with the prompt, minus ``bare``: pointwise
            mutual information of prompt and answer, per token
tokens      number of content tokens read
=========== ====================================================================================
"""

UNCONDITIONAL = ("bare", "ratio")
"""Those that take a reading without the prompt."""


class Targets(NamedTuple):
    """Tokens of one sequence to find the probability of; each follows one of ``positions``."""

    positions: np.ndarray
    tokens: np.ndarray


def content_targets(answer: PackedAnswer) -> Targets:
    """The answer's content tokens, given the prompt."""
    return Targets(answer.content - 1, answer.ids[answer.content])


def end_target(answer: PackedAnswer, end_token: int) -> Targets:
    """The token that ends the turn, after the last content token."""
    return Targets(np.array([answer.last]), np.array([end_token], dtype=np.int32))


def unconditional_targets(answer: PackedAnswer) -> Targets:
    """The last turn's first tokens, in the sequence without the prompt."""
    ids, length = answer.unconditional, answer.unconditional_length
    return Targets(np.arange(len(ids) - length, len(ids)) - 1, ids[-length:])


def token_log_probs(
    backbone: Backbone, states: torch.Tensor, targets: Sequence[Targets]
) -> list[np.ndarray]:
    """How likely tokens are, by sequence.

    Args:
        backbone: whose head gives the logits.
        states: final states, (n, longest, d).
        targets: of each sequence.

    Returns:
        Of each sequence float64 (3, tokens): log-probability, entropy, and 1 where no token is
        likelier.
    """
    counts = [len(t.positions) for t in targets]
    begins = np.repeat(np.arange(len(targets)) * states.shape[1], counts)
    positions = begins + np.concatenate([t.positions for t in targets])
    tokens = np.concatenate([t.tokens for t in targets]).astype(np.int64)
    log_probs = log_probs_at(
        backbone, states.flatten(0, 1), torch.from_numpy(positions), torch.from_numpy(tokens)
    )
    return np.split(log_probs.double().cpu().numpy(), np.cumsum(counts)[:-1], axis=1)


def log_probs_at(
    backbone: Backbone, states: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
    """``of_logits`` of the tokens that follow some states; float32 (3, n) on the head's card.

    Args:
        backbone: whose head gives the logits; it may lie on another card than the states.
        states: final states, (positions, d).
        rows: of the states, int64 (n,), in the CPU's memory.
        tokens: int64 (n,), there too.
    """
    where = backbone.model.lm_head.weight.device
    rows, tokens = upload(rows, states.device), upload(tokens, where)
    on_cpu = states.device.type == "cpu"
    head_rows, softmax_rows = (HEAD_ROWS, SOFTMAX_ROWS) if on_cpu else (GPU_ROWS, GPU_ROWS)
    parts = [torch.empty((3, 0), device=where)]
    for some_rows, own in zip(
        torch.split(rows, head_rows), torch.split(tokens, head_rows), strict=True
    ):
        logits = backbone.logits(states.index_select(0, some_rows))
        pieces = zip(torch.split(logits, softmax_rows), torch.split(own, softmax_rows), strict=True)
        parts += [of_logits(some_logits, some_tokens) for some_logits, some_tokens in pieces]
    return torch.cat(parts, dim=1)


def of_logits(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probability, entropy, and whether no token is likelier, of tokens; float32 (3, n).

    Args:
        logits: (n, vocabulary).
        tokens: ids, int64 (n,).
    """
    below = logits.float()
    below = below - below.amax(dim=-1, keepdim=True)
    weights = below.exp()
    total = weights.sum(dim=-1)
    own = below.gather(1, tokens.unsqueeze(1)).squeeze(1)
    # The sum of p log p with one exponential a token, written over the weights.
    entropy = total.log() - weights.mul_(below).sum(dim=-1) / total
    return torch.stack([own - total.log(), entropy, (own == 0).float()])


def conditional_quantities(
    answer: PackedAnswer, content: np.ndarray, end: np.ndarray
) -> dict[str, float]:
    """Quantities by name, but for what is read without the prompt; ``ratio`` still lacks that.

    Args:
        answer: what was read.
        content: of its content tokens, as ``token_log_probs`` gives them.
        end: of the token that ends the turn.
    """
    log_probs, entropies, greedy = content
    quantities = {"sum": log_probs.sum(), "tokens": len(log_probs), "end": end[0, 0]}
    if len(log_probs):
        quantities |= {
            "mean": log_probs.mean(),
            "worst": log_probs.min(),
            "entropy": entropies.mean(),
            "greedy": greedy.mean(),
        }
    if answer.unconditional_length:
        start = answer.unconditional_start
        same_tokens = np.arange(start, start + answer.unconditional_length)
        quantities["ratio"] = log_probs[np.searchsorted(answer.content, same_tokens)].mean()
    return quantities


def likelihood_view(
    ids: Sequence[str], a: np.ndarray, b: np.ndarray, *, unconditional: bool = True
) -> FeatureTable:
    """The likelihood view: of every quantity the difference, its size, and the sum.

    Args:
        ids: battle ids, n.
        a: quantities of answer A, float32 (n, len(QUANTITIES)).
        b: the same of answer B.
        unconditional: whether answers were read without their prompts too; else the view lacks the
            columns of ``UNCONDITIONAL``.
    """
    columns: dict[str, Column] = {}
    blocks = []
    for i, quantity in enumerate(QUANTITIES):
        if quantity in UNCONDITIONAL and not unconditional:
            continue
        difference = a[:, i] - b[:, i]
        blocks += [difference, np.abs(difference), a[:, i] + b[:, i]]
        columns[f"{quantity}.diff"] = Column("anti", "likelihood")
        columns[f"{quantity}.absdiff"] = Column("sym", "likelihood")
        columns[f"{quantity}.sum"] = Column("sym", "likelihood")
    return FeatureTable(ids, np.stack(blocks, axis=1), columns)
