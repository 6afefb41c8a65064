"""Pooled states in one byte a value: an 8-bit float, times a power of two for each state.

The float has 4 bits of exponent and 3 of fraction (E4M3, Micikevicius et al. 2022, "FP8 formats
for deep learning"): a value is off by 1/16 of itself at most, unless it is tiny beside the state's
largest. Whole numbers of one byte would round most values away, for a few dimensions of a language
model's states are a hundred times as large as the others.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

LARGEST = 448.0
"""Of E4M3."""

LOWEST = -15
"""Exponent of a state at least, so that float16 holds each of its values."""

HALF = np.float16(torch.finfo(torch.float16).max)


def to_bytes(states: np.ndarray) -> np.ndarray:
    """States in one byte a value, and one more for the power of two.

    Args:
        states: float16 (..., d); NaN stays NaN.

    Returns:
        uint8 (..., d + 1).
    """
    values = torch.from_numpy(states).float()
    largest = values.abs().nan_to_num(0.0).amax(dim=-1, keepdim=True)
    exponent = torch.frexp(largest / LARGEST).exponent.clamp(min=LOWEST)
    eighths = (values * torch.exp2(-exponent.float())).to(torch.float8_e4m3fn)
    last = (exponent - LOWEST).to(torch.uint8)
    return torch.cat([eighths.view(torch.uint8), last], dim=-1).numpy()


def as_float16(states: np.ndarray) -> np.ndarray:
    """Stored states as float16 (..., d): those of :func:`to_bytes`, or float16 as they are."""
    if states.dtype != np.uint8:
        return states
    scale = np.exp2(states[..., -1:].astype(np.float32) + LOWEST).astype(np.float16)
    with np.errstate(over="ignore"):
        values: np.ndarray = _values_of_bytes()[states[..., :-1]] * scale
    return values.clip(-HALF, HALF)


@cache
def _values_of_bytes() -> np.ndarray:
    """The value of each byte, float16 (256,)."""
    values: np.ndarray = torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn).half().numpy()
    return values
