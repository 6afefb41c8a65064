"""What the language model says about an answer: pooled hidden states, and how likely it finds it.

Hidden states are pooled in float32: ``mean`` over the answer's content tokens of all its turns,
``last``, the state of the last content token of its last turn (never an end-of-turn token, an EOS
or padding), and ``prompt``, the mean over the prompt's tokens. Where the last turn is empty,
``last`` is the token before it, and where there are no tokens to average, it stands for their mean.
The state of layer k is the output of the k-th decoder layer; that of the last layer is taken after
the model's final norm.

Log-probabilities are natural logarithms of a float32 softmax. Only positions that predict a content
token go through the model's head, those of a batch together, in chunks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from embeddings.backbone.layers import layer_numbers
from embeddings.backbone.load import Backbone
from embeddings.backbone.runtime import TORCH
from embeddings.backbone.runtime import engine as make_engine
from embeddings.prompts.answers import PackedAnswer

SCORING_VERSION = 4

CHUNK = 128
"""Positions through the head at once: 128 x a vocabulary of 256,000 in float32 is 131 MB."""

CACHED = 8
"""Of these, rows that a CPU takes to the softmax at once, so that what it computes of them stays in
its caches: five times as fast as 128 at a vocabulary of 49,152, with the same bits."""

GPU_CHUNK = 512
"""The same on a GPU, which reads the head from its memory for every chunk."""

POOLINGS = ("mean", "last", "prompt")

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


def slot_names(numbers: Sequence[int]) -> list[str]:
    """Names of the pooled states in their order, such as ``layer18.mean``."""
    return [f"layer{n}.{pooling}" for n in numbers for pooling in POOLINGS]


class Scorer:
    """Reads items with one backbone."""

    def __init__(
        self, backbone: Backbone, end_token: int, opening: np.ndarray, engine: str = TORCH
    ) -> None:
        """Read the opening.

        Args:
            backbone: the model.
            end_token: the token that ends a turn in its template.
            opening: tokens with which every sequence begins, int32; may be empty.
            engine: what runs the decoder, ``torch`` or ``openvino``.

        Raises:
            UserError: the engine cannot run this model, or its head is not known here.
        """
        backbone.check_head()
        self.backbone, self.end_token, self.opening = backbone, end_token, opening
        self.numbers = layer_numbers(backbone.config.layers, len(backbone.decoder.layers))
        self.engine = make_engine(engine, backbone, self.numbers, opening)

    def score(self, items: Sequence[PackedAnswer]) -> tuple[np.ndarray, np.ndarray]:
        """Pooled states and quantities of a batch.

        Returns:
            float16 (n, slots, d), clamped to float16's range, and float32 (n, len(QUANTITIES)); a
            quantity of no tokens is NaN, their sum and number 0. All of an item is NaN where the
            model gave an infinite number, or none, for any of it.
        """
        values = np.full((len(items), len(QUANTITIES)), np.nan, dtype=np.float32)
        column = {name: i for i, name in enumerate(QUANTITIES)}
        with torch.inference_mode():
            layers = self.engine.states([item.ids for item in items])
            final = layers[-1]
            pooled = torch.stack([_pool(layers[:-1], row, item) for row, item in enumerate(items)])
            end = np.array([self.end_token], dtype=np.int32)
            asked = [(item.content - 1, item.ids[item.content]) for item in items]
            ends = self._log_probabilities(final, [(np.array([i.last]), end) for i in items])
            wholes = self._log_probabilities(final, asked)
            for row, item in enumerate(items):
                found = _quantities(item, wholes[row], ends[row])
                if np.isfinite(list(found.values())).all():
                    for name, value in found.items():
                        values[row, column[name]] = value
            bare_rows = [row for row, item in enumerate(items) if item.bare_length]
            if bare_rows:
                final = self.engine.states([items[row].bare for row in bare_rows])[-1]
                asked = []
                for row in bare_rows:
                    bare, length = items[row].bare, items[row].bare_length
                    asked.append((np.arange(len(bare) - length, len(bare)) - 1, bare[-length:]))
                said = self._log_probabilities(final, asked)
                for row, (logs, _, _) in zip(bare_rows, said, strict=True):
                    values[row, column["bare"]] = logs.mean()
                    values[row, column["ratio"]] -= logs.mean()
                    if not np.isfinite(logs).all():
                        values[row] = np.nan
        vectors = pooled.cpu().numpy()
        lost = np.isnan(vectors).any(axis=(1, 2)) | np.isnan(values[:, column["tokens"]])
        vectors[lost], values[lost] = np.nan, np.nan
        return vectors, values

    def _log_probabilities(
        self, states: torch.Tensor, asked: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> list[np.ndarray]:
        """How likely tokens are, by sequence.

        Args:
            states: final states, (n, longest, d).
            asked: of each sequence positions, and the tokens that follow there.

        Returns:
            Of each sequence float64 (3, tokens): log-probability, entropy, and 1 where no token is
            likelier.
        """
        counts = [len(positions) for positions, _ in asked]
        begins = np.repeat(np.arange(len(asked)) * states.shape[1], counts)
        rows = torch.from_numpy(begins + np.concatenate([p for p, _ in asked])).to(states.device)
        tokens = np.concatenate([t for _, t in asked]).astype(np.int64)
        wanted = torch.from_numpy(tokens).to(states.device)
        flat = states.flatten(0, 1)
        size, at_once = (CHUNK, CACHED) if states.device.type == "cpu" else (GPU_CHUNK, GPU_CHUNK)
        found = [torch.empty((3, 0), device=states.device)]
        for begin in range(0, len(rows), size):
            logits = self.backbone.logits(flat[rows[begin : begin + size]])
            targets = wanted[begin : begin + size].to(logits.device)
            pieces = zip(torch.split(logits, at_once), torch.split(targets, at_once), strict=True)
            found += [_of_tokens(part, own) for part, own in pieces]
        all_rows = torch.cat(found, dim=1).double().cpu().numpy()
        return np.split(all_rows, np.cumsum(counts)[:-1], axis=1)


def _quantities(item: PackedAnswer, whole: np.ndarray, end: np.ndarray) -> dict[str, float]:
    """Quantities by name, but for what is read without the prompt; ``ratio`` still lacks that.

    Args:
        item: the answer.
        whole: of its content tokens, as ``Scorer._log_probabilities`` gives them.
        end: of the token that ends the turn.
    """
    logs, entropies, firsts = whole
    found = {"sum": logs.sum(), "tokens": len(logs), "end": end[0, 0]}
    if len(logs):
        found |= {
            "mean": logs.mean(),
            "worst": logs.min(),
            "entropy": entropies.mean(),
            "greedy": firsts.mean(),
        }
    if item.bare_length:
        places = np.searchsorted(
            item.content, np.arange(item.bare_start, item.bare_start + item.bare_length)
        )
        found["ratio"] = logs[places].mean()
    return found


def _of_tokens(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Log-probability, entropy, and whether no token is likelier, of tokens; float32 (3, n).

    Args:
        logits: (n, vocabulary).
        wanted: token ids, int64 (n,).
    """
    below = logits.float()
    below = below - below.amax(dim=-1, keepdim=True)
    weights = below.exp()
    total = weights.sum(dim=-1)
    own = below.gather(1, wanted[:, None])[:, 0]
    # The sum of p log p with one exponential a token, written over the weights.
    entropy = total.log() - weights.mul_(below).sum(dim=-1) / total
    return torch.stack([own - total.log(), entropy, (own == 0).float()])


def _pool(layers: Sequence[torch.Tensor], row: int, item: PackedAnswer) -> torch.Tensor:
    """All slots of one item, float16 (slots, d)."""
    content, asked = (torch.from_numpy(x).to(layers[-1].device) for x in (item.content, item.asked))
    slots = []
    for states in layers:
        last = states[row, item.last].float()
        slots += [
            _mean(states[row], content, last),
            last,
            _mean(states[row], asked, last),
        ]
    limit = torch.finfo(torch.float16).max
    # Layers may lie on several cards.
    pooled = torch.stack([slot.to(slots[-1].device) for slot in slots])
    return pooled.where(pooled.isfinite(), torch.nan).clamp(-limit, limit).half()


def _mean(states: torch.Tensor, positions: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
    """Mean state at ``positions`` in float32 (d,), ``empty`` where there are none."""
    if not len(positions):
        return empty
    return states[positions.to(states.device)].float().mean(dim=0)
