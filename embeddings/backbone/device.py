"""What the GPU of this machine can compute, asked before anything costly begins."""

from __future__ import annotations

import re

import torch

from common.errors import Code, UserError
from embeddings.backbone.config import BackboneConfig

BFLOAT16 = (8, 0)
"""Compute capability from which a card computes bfloat16 itself (Ampere)."""

ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)[af]?")
"""Machine code for a capability, or PTX for it and all later ones, in PyTorch's list."""


def default_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device(config: BackboneConfig, device: torch.device | None = None) -> list[str]:
    """Check that PyTorch can run a backbone where it will be put; takes no time and no memory.

    Args:
        config: the backbone.
        device: where to; by default the GPU if there is one.

    Returns:
        What is possible and slow, a line each for people.

    Raises:
        UserError: this build of PyTorch has no kernels for the card.
    """
    device = device or default_device()
    if device.type != "cuda":
        slow = config.dtype == "float16"
        return [f"{config.name}: float16 is slow on a CPU; bfloat16 is not"] if slow else []
    try:
        own = torch.cuda.current_device() if device.index is None else device.index
        cards = range(torch.cuda.device_count()) if config.device_map == "auto" else [own]
        found = {i: torch.cuda.get_device_capability(i) for i in cards}
        names = {i: f"{torch.cuda.get_device_name(i)} (sm_{a}{b})" for i, (a, b) in found.items()}
        built_for = torch.cuda.get_arch_list()
    # A build without CUDA asserts, a driver that fails is a RuntimeError.
    except (AssertionError, RuntimeError) as error:
        raise UserError(
            Code.GPU_UNSUPPORTED,
            f"PyTorch {torch.__version__} finds a GPU and cannot use it "
            f"({(str(error) or type(error).__name__).splitlines()[0]}). {REMEDY}",
        ) from error
    for card, capability in found.items():
        if not has_kernels(capability, built_for):
            raise UserError(
                Code.GPU_UNSUPPORTED,
                f"PyTorch {torch.__version__} has no kernels for {names[card]}, only for "
                f"{', '.join(built_for)}. {REMEDY}",
            )
    if config.dtype != "bfloat16" or all(c >= BFLOAT16 for c in found.values()):
        return []
    emulating = ", ".join(names[i] for i, capability in found.items() if capability < BFLOAT16)
    return [
        f"{config.name}: {emulating} computes bfloat16 by emulation, which is slow. A YAML with "
        "dtype: float16 reads faster; to be fine-tuned a model needs bfloat16 or float32"
    ]


REMEDY = (
    "Install a build of PyTorch for this card (before Turing: `pip install torch --index-url "
    "https://download.pytorch.org/whl/cu126`), or use the CPU: set CUDA_VISIBLE_DEVICES to nothing."
)
"""What to do about a card that PyTorch cannot use."""


def has_kernels(capability: tuple[int, int], built_for: list[str]) -> bool:
    """Whether a build of PyTorch runs on a card.

    Machine code runs on cards of its major version from its minor one on; PTX is compiled for any
    later card. (CUDA C++ Programming Guide, "Application Compatibility".)

    Args:
        capability: of the card, major and minor.
        built_for: ``torch.cuda.get_arch_list()``; AMD's have other names, and are not judged.
    """
    matches = [match for name in built_for if (match := ARCHITECTURE.fullmatch(name))]
    for kind, *numbers in (match.groups() for match in matches):
        major, minor = map(int, numbers)
        same = major == capability[0] and minor <= capability[1]
        if same or (kind == "compute" and (major, minor) <= capability):
            return True
    return not matches
