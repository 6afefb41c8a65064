"""What the GPU of this machine can compute, asked before anything costly begins."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from common.errors import Code, UserError, first_line
from embeddings.backbone.config import BackboneConfig

BFLOAT16 = (8, 0)
"""Compute capability from which a card computes bfloat16 itself, and has PyTorch's flash attention
(Ampere). ``torch.cuda.is_bf16_supported()`` also counts emulation."""

INT8 = (7, 5)
"""Compute capability from which bitsandbytes has LLM.int8 (Turing)."""

FLASH = "flash_attention_2"

ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)[af]?")
"""Machine code for a capability, or PTX for it and all later ones, in PyTorch's list."""

DRIVER = Path("/proc/driver/nvidia")
"""Where NVIDIA's driver says that it is loaded."""

PRODUCT_SIZE = 64
"""Rows and columns of the matrices that a card multiplies before it reads."""

HIDDEN_CARDS = ("", "-1")
"""Values of CUDA_VISIBLE_DEVICES that ask for the CPU."""


@dataclass(frozen=True)
class Card:
    """A GPU as PyTorch describes it."""

    index: int
    name: str
    capability: tuple[int, int]

    def __str__(self) -> str:
        """The card for people, such as ``Tesla T4 (sm_75)``."""
        return f"{self.name} (sm_{self.capability[0]}{self.capability[1]})"


def default_device() -> torch.device:
    """The GPU if there is one, else the CPU.

    Raises:
        UserError: the driver of a card is loaded, and PyTorch finds none: a run of days would begin
            on the CPU.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if DRIVER.exists() and (visible is None or visible.strip() not in HIDDEN_CARDS):
        build = (
            f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is a CPU build"
        )
        raise UserError(
            Code.GPU_UNSUPPORTED,
            f"NVIDIA's driver is loaded, and PyTorch finds no GPU: PyTorch {torch.__version__} "
            f"{build}; the driver may be too old for it (compare `nvidia-smi`), or a container "
            f"lacks the card. {REMEDY}",
        )
    return torch.device("cpu")


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU's memory on a device; a GPU is not waited for."""
    if device.type == "cuda" and torch.cuda.is_available():
        # Only from such memory a copy goes on beside what comes next.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def cards_of(config: BackboneConfig, device: torch.device) -> list[Card]:
    """The GPUs on which a backbone will lie; none on a CPU.

    Raises:
        UserError: PyTorch finds a GPU and cannot use it.
    """
    if device.type != "cuda":
        return []
    try:
        own = torch.cuda.current_device() if device.index is None else device.index
        indices = range(torch.cuda.device_count()) if config.device_map == "auto" else [own]
        return [
            Card(i, torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i))
            for i in indices
        ]
    # A build without CUDA asserts, a driver that fails is a RuntimeError.
    except (AssertionError, RuntimeError) as error:
        raise _unusable(error) from error


def compute_dtype(
    config: BackboneConfig, device: torch.device | None = None, *, trains: bool = False
) -> str:
    """The dtype in which a backbone computes: its own, but for cards that have no bfloat16.

    They read in float16. They are trained in bfloat16 all the same, which they emulate: float16
    needs loss scaling.

    Args:
        config: the backbone.
        device: where to; by default the GPU if there is one.
        trains: whether it will be trained.

    Raises:
        UserError: PyTorch cannot use the GPU.
    """
    emulated = config.dtype == "bfloat16" and _before(
        BFLOAT16, cards_of(config, device or default_device())
    )
    return "float16" if emulated and not trains else config.dtype


def check_device(config: BackboneConfig, device: torch.device | None = None) -> list[str]:
    """Check that PyTorch can run a backbone where it will be put; takes no time.

    Args:
        config: the backbone.
        device: where to; by default the GPU if there is one.

    Returns:
        The GPUs with their free memory, and what is possible and slow, a line each for people.

    Raises:
        UserError: the GPU cannot be used, multiplies to wrong numbers, has no kernels for the
            quantization, or no such attention.
    """
    device = device or default_device()
    if device.type != "cuda":
        slow = config.dtype == "float16"
        return [f"{config.name}: float16 is slow on a CPU; bfloat16 is not"] if slow else []
    cards = cards_of(config, device)
    built_for = torch.cuda.get_arch_list()
    for card in cards:
        if not has_kernels(card.capability, built_for):
            raise UserError(
                Code.GPU_UNSUPPORTED,
                f"PyTorch {torch.__version__} has no kernels for {card}, only for "
                f"{', '.join(built_for)}. {REMEDY}",
            )
    if config.quantization == "int8" and (old := _before(INT8, cards)):
        raise UserError(
            Code.GPU_UNSUPPORTED,
            f"bitsandbytes has no LLM.int8 for {_names(old)}. Take --quantization nf4.",
        )
    old = _before(BFLOAT16, cards)
    if config.attention == FLASH and old:
        raise UserError(
            Code.GPU_UNSUPPORTED,
            f"{FLASH} does not run on {_names(old)}. Take `attention: sdpa` or `eager` in the "
            "backbone's YAML.",
        )
    try:
        memory = [torch.cuda.mem_get_info(card.index) for card in cards]
    except RuntimeError as error:
        raise _unusable(error) from error
    for card in cards:
        check_product(card, compute_dtype(config, device))
    notes = [
        f"GPU {card.index}: {card}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        for card, (free, total) in zip(cards, memory, strict=True)
    ]
    if old and config.dtype == "bfloat16":
        notes.append(
            f"{config.name}: {_names(old)} has no bfloat16, so reading computes in float16; "
            "training computes in emulated bfloat16, which is slow"
        )
    return notes


def check_product(card: Card, dtype: str) -> None:
    """Check that a card multiplies two small matrices as a CPU does: hours of work may follow.

    All numbers and sums are integers up to 256, which every dtype holds exactly.

    Args:
        card: the GPU.
        dtype: in which it will compute.

    Raises:
        UserError: it fails, or its numbers are wrong.
    """
    one = torch.arange(PRODUCT_SIZE**2).reshape(PRODUCT_SIZE, PRODUCT_SIZE) % 3
    try:
        there = one.to(_place(card), getattr(torch, dtype))
        found = (there @ there.T).to("cpu", torch.int64)
    # A build without CUDA asserts.
    except (AssertionError, RuntimeError) as error:
        raise UserError(
            Code.GPU_UNSUPPORTED,
            f"GPU {card.index}, {card}, cannot multiply two small matrices in {dtype} "
            f"({first_line(error)}). {LEAVE_OUT}",
        ) from error
    if not torch.equal(found, one @ one.T):
        raise UserError(
            Code.GPU_UNSUPPORTED,
            f"GPU {card.index}, {card}, multiplies two small matrices in {dtype} to wrong numbers. "
            f"{LEAVE_OUT}",
        )


def _place(card: Card) -> torch.device:
    """Where a card's tensors go."""
    return torch.device("cuda", card.index)


def machine(config: BackboneConfig, *, trains: bool = False) -> dict[str, Any]:
    """What computes a backbone's numbers here, for a run's record.

    Args:
        config: the backbone.
        trains: whether it is trained.

    Returns:
        ``device`` (its kind), ``dtype`` (in which it computes) and ``cards`` (all that are seen).

    Raises:
        UserError: PyTorch cannot use the GPU.
    """
    device = default_device()
    return {
        "device": device.type,
        "dtype": compute_dtype(config, device, trains=trains),
        "cards": [str(card) for card in cards_of(replace(config, device_map="auto"), device)],
    }


def store_suffix(config: BackboneConfig) -> str:
    """What stands behind the hash in the name of a store that is filled here.

    Nothing on a CPU. Elsewhere the kind of device, whose kernels round and quantize otherwise; and
    for LLM.int8, which chooses its columns over a whole batch, the tokens of a batch. Evidence of
    all kinds of device goes together; one store holds that of one kind.

    Args:
        config: the backbone.

    Raises:
        UserError: PyTorch cannot use the GPU.
    """
    kind = default_device().type
    if kind == "cpu":
        return ""
    return f"-{kind}" + (f"-{config.batch_tokens}" if config.quantization == "int8" else "")


REMEDY = (
    "Install a build of PyTorch for this card and driver (Colab, Kaggle, and any card before "
    "Turing: `pip install torch --index-url https://download.pytorch.org/whl/cu126`), or use the "
    "CPU: set CUDA_VISIBLE_DEVICES to nothing."
)
"""What to do about a card that PyTorch cannot use."""

LEAVE_OUT = (
    "Free or reset the card if another program holds it, else leave it out: name the others in "
    "CUDA_VISIBLE_DEVICES."
)
"""What to do about a card that PyTorch knows and that does not compute."""


def _unusable(error: Exception) -> UserError:
    return UserError(
        Code.GPU_UNSUPPORTED,
        f"PyTorch {torch.__version__} finds a GPU and cannot use it "
        f"({first_line(error)}). {REMEDY}",
    )


def _before(capability: tuple[int, int], cards: list[Card]) -> list[Card]:
    """The cards that are older than a compute capability."""
    return [card for card in cards if card.capability < capability]


def _names(cards: list[Card]) -> str:
    return ", ".join(map(str, cards))


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
