"""The judge's head: three logits of states that it brings to one scale."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from arena.schema import CLASSES
from embeddings.frozen.pair_states import STATES
from embeddings.judge.config import JudgeConfig
from embeddings.judge.probe import Probe


def states_of(training: JudgeConfig, depths: int) -> int:
    """How many states a head reads of a sequence, of so many depths."""
    return depths * (len(STATES) if training.pool == "answers" else 1)


class Head(nn.Module):
    """A linear map of standardised states; as ``mlp``, two layers are added that begin at zero.

    A few coordinates of a language model's states are a hundred times as large as the others. A
    step of Adam is as large for each weight, so unscaled they would rule.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, training: JudgeConfig, states: int, width: int) -> None:
        """All logits are 0 until ``start``.

        Args:
            training: which kind of head.
            states: how many it reads.
            width: of each.
        """
        super().__init__()
        size, classes = states * width, len(CLASSES)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.linear = nn.Linear(size, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.mlp = None
        if training.head == "mlp":
            last = nn.Linear(width // 2, classes)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.mlp = nn.Sequential(
                nn.Dropout(training.dropout), nn.Linear(size, width // 2), nn.GELU(), last
            )

    @classmethod
    def load(cls, training: JudgeConfig, depths: int, weights: Mapping[str, torch.Tensor]) -> Head:
        """The head among a judge's saved weights, in eval mode.

        Args:
            training: which kind of head.
            depths: how many depths it reads.
            weights: of the judge; the head's own names begin with ``head.``.
        """
        own = {n.removeprefix("head."): w for n, w in weights.items() if n.startswith("head.")}
        states = states_of(training, depths)
        head = cls(training, states, len(own["mean"]) // states)
        head.load_state_dict(own)
        return head.eval()

    def start(self, probe: Probe) -> None:
        """Say what a probe of the same states says."""
        with torch.no_grad():
            self.mean.copy_(probe.mean)
            self.scale.copy_(probe.scale)
            self.linear.weight.copy_(probe.weight)
            self.linear.bias.copy_(probe.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Logits float32 (n, 3) of states float32 (n, states * width)."""
        standardized = (states - self.mean) / self.scale
        logits: torch.Tensor = self.linear(standardized)
        return logits if self.mlp is None else logits + self.mlp(standardized)


def unscaled(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a judge that says the same with a head of mean 0 and scale 1."""
    plain = dict(weights)
    mean, scale = weights["head.mean"], weights["head.scale"]
    for name in ("head.linear", "head.mlp.1"):
        if f"{name}.weight" in weights:
            weight = weights[f"{name}.weight"] / scale
            plain[f"{name}.weight"] = weight
            plain[f"{name}.bias"] = weights[f"{name}.bias"] - weight @ mean
    return {**plain, "head.mean": torch.zeros_like(mean), "head.scale": torch.ones_like(scale)}
