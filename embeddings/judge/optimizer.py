"""AdamW of a judge, and its moments as a checkpoint keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from embeddings.judge.config import JudgeConfig

HEAD_BITS = 32
"""Of a moment of the head, which is small, and whose coordinates are of many sizes."""


def make_optimizer(
    trained: Mapping[str, nn.Parameter], training: JudgeConfig, *, on_cpu: bool
) -> torch.optim.Optimizer:
    """AdamW with two groups, LoRA and the head, each with its ``peak`` learning rate.

    On a GPU the moments of LoRA have 8 bits (Dettmers et al. 2021, arXiv 2110.02861).

    Args:
        trained: parameters by name; those of the head begin with ``head.``.
        training: learning rates and weight decay.
        on_cpu: whether PyTorch's own is taken.
    """
    heads = [p for n, p in trained.items() if n.startswith("head.")]
    loras = [p for n, p in trained.items() if not n.startswith("head.")]
    groups: list[dict[str, Any]] = [
        {"params": loras, "lr": training.lr, "peak": training.lr},
        {"params": heads, "lr": training.head_lr, "peak": training.head_lr},
    ]
    if on_cpu:
        return torch.optim.AdamW(groups, weight_decay=training.weight_decay)
    # It takes seconds to load and speaks while it does: nothing for --help.
    import bitsandbytes

    class AdamW(bitsandbytes.optim.AdamW8bit):  # type: ignore[misc]
        """8-bit moments, but for a group that names its own bits."""

        def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
            bits = group.get("optim_bits", 8)
            return {**super().get_config(gindex, pindex, group), "optim_bits": bits}

    groups[1]["optim_bits"] = HEAD_BITS
    # Not the paged one: it never gives its memory back, and each fold has its own.
    optimizer: torch.optim.Optimizer = AdamW(groups, weight_decay=training.weight_decay)
    return optimizer


def moments_of(
    optimizer: torch.optim.Optimizer, trained: Mapping[str, nn.Parameter]
) -> tuple[dict[str, torch.Tensor], dict[str, int | float]]:
    """What an optimizer remembers of each parameter: tensors, and plain numbers, by name."""
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, int | float] = {}
    for name, parameter in trained.items():
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{name}/{key}"] = value.detach()
            else:
                numbers[f"optimizer/{name}/{key}"] = value
    return tensors, numbers


def restore_moments(
    optimizer: torch.optim.Optimizer,
    trained: Mapping[str, nn.Parameter],
    tensors: Mapping[str, torch.Tensor],
    numbers: Mapping[str, int | float],
) -> bool:
    """Let an optimizer remember what ``moments_of`` gave; others may be among the tensors.

    Returns:
        False where another kind of optimizer gave it, and nothing was restored: bitsandbytes and
        PyTorch have moments of other names and bits.
    """
    eight_bits = any(name.endswith("/state1") for name in tensors)
    if eight_bits == isinstance(optimizer, torch.optim.AdamW):
        return False
    for name, parameter in trained.items():
        begin = f"optimizer/{name}/"
        values: dict[str, Any] = {
            # torch's AdamW counts its steps on the CPU, wherever the parameters are.
            n: t if n == f"{begin}step" else t.to(parameter.device)
            for n, t in tensors.items()
            if n.startswith(begin)
        }
        values |= {n: v for n, v in numbers.items() if n.startswith(begin)}
        optimizer.state[parameter] = {n[len(begin) :]: v for n, v in values.items()}
    return True
