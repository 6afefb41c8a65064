"""Cards that this machine does not have, as PyTorch would describe them."""

import torch

from embeddings.backbone import device, load
from embeddings.backbone.device import Card

CUDA_12_8 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]

T4, A100 = (7, 5), (8, 0)


def install(monkeypatch, *capabilities, built_for=CUDA_12_8, free=14 * 2**30):
    """Make PyTorch find cards of these capabilities, and a build for these architectures.

    Their products are computed by the CPU.
    """
    found = {
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "device_count": lambda: len(capabilities),
        "get_device_capability": lambda i: capabilities[i],
        "get_device_name": lambda i: f"Card {i}",
        "get_arch_list": lambda: built_for,
        "mem_get_info": lambda i: (free, free + 2**30),
    }
    for name, answer in found.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(device, "_place", lambda _: torch.device("cpu"))


def pretend(monkeypatch, *capabilities):
    """Let models be loaded on the CPU as if these cards were to compute."""
    cards = [Card(i, f"Card {i}", capability) for i, capability in enumerate(capabilities)]
    for module in (device, load):
        monkeypatch.setattr(module, "cards_of", lambda *_: cards)
