"""Safetensors files with their own checksum, each of which is whole or absent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from common.files import atomic


class DamagedError(Exception):
    """A file differs from what was written."""


def checksum(tensors: Mapping[str, torch.Tensor], notes: str = "") -> str:
    """Hash of names, dtypes, shapes and bytes of all tensors, and of notes where there are some."""
    h = hashlib.sha256(notes.encode())
    for name, tensor in sorted(tensors.items()):
        dtype = str(tensor.dtype).removeprefix("torch.")
        h.update(f"{name} {dtype} {tuple(tensor.shape)};".encode())
        h.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return h.hexdigest()


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor | np.ndarray], notes: Any = None
) -> None:
    """Write tensors on the CPU with their checksum, atomically; equal tensors give equal bytes.

    Args:
        path: where to.
        tensors: by name; contiguous, and none shares another's memory.
        notes: JSON to go with them.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    as_torch = {
        n: torch.from_numpy(t) if isinstance(t, np.ndarray) else t for n, t in tensors.items()
    }
    notes_json = "" if notes is None else json.dumps(notes)
    # Several entries would be written in no fixed order.
    entry = checksum(as_torch, notes_json) + notes_json
    with atomic(path) as temporary:
        try:
            save_file(as_torch, temporary, metadata={"sha256": entry})
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error


def read_tensors(path: Path, unsigned: bool = False) -> tuple[dict[str, torch.Tensor], Any]:
    """Read what ``write_tensors`` wrote, and check it.

    Args:
        path: where from.
        unsigned: accept a file without metadata too, from before there was a checksum.

    Returns:
        The tensors by name, mapped and not to be changed, and the notes.

    Raises:
        DamagedError: it is cut short, changed, or no such file at all.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedError(str(error)) from error
    if unsigned and not metadata:
        return tensors, None
    entry = (metadata or {}).get("sha256", "")
    notes_json = entry[64:]
    if entry[:64] != checksum(tensors, notes_json):
        raise DamagedError("its checksum does not fit")
    return tensors, json.loads(notes_json) if notes_json else None
