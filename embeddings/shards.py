"""Arrays of different lengths by content address, in shards that are each whole or not there.

A shard is a safetensors file of ``keys`` (uint8, n x 32), ``ends`` (int64, n: where each item's
rows end) and ``values`` (rows of all items, one after the other). It is read through a memory map,
so a folder may be far larger than memory. One process at a time writes a folder.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from arena.files import atomic
from arena.progress import Progress
from embeddings import pairs
from embeddings.reading import in_shards
from embeddings.store import SHARD_ITEMS


class Shards:
    """The items of one folder."""

    def __init__(self, folder: Path) -> None:
        """Open or begin the folder; remove what a crash left and shards that are cut short."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()
        self._where: dict[bytes, tuple[Any, int, int]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                self._index(path)
            except (SafetensorError, OSError) as error:
                print(f"{path} is corrupt ({error}): removed and made again", file=sys.stderr)
                path.unlink()

    def __contains__(self, key: bytes) -> bool:
        return key in self._where

    def add(self, keys: Sequence[bytes], items: Sequence[torch.Tensor]) -> None:
        """Write a shard of items (rows, width), all of one width and dtype, atomically."""
        ends = torch.tensor([len(item) for item in items]).cumsum(0)
        names = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).reshape(-1, 32)
        path = self.folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:32]}.safetensors"
        with atomic(path) as temporary:
            save_file({"keys": names, "ends": ends, "values": torch.cat(list(items))}, temporary)
        self._index(path)

    def get(self, key: bytes) -> torch.Tensor:
        """An item's rows.

        Raises:
            KeyError: it is not there.
        """
        file, begin, end = self._where[key]
        found: torch.Tensor = file.get_slice("values")[begin:end]
        return found

    def _index(self, path: Path) -> None:
        file: Any = safe_open(path, framework="pt")
        keys, ends = file.get_tensor("keys"), file.get_tensor("ends").tolist()
        for row, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
            self._where[keys[row].numpy().tobytes()] = (file, begin, end)


def fill(
    shards: Shards,
    todo: Sequence[pairs.Sequence],
    read: Callable[[Sequence[pairs.Sequence]], Sequence[torch.Tensor]],
    what: str,
    budget: int,
) -> None:
    """Read sequences with a model and add what it finds, shard by shard in their order.

    Args:
        shards: where to.
        todo: sequences that are not there yet.
        read: one batch, an item (rows, width) for each of its sequences.
        what: for people.
        budget: tokens of a batch on a GPU, 0 on a CPU, see ``embeddings.reading``.
    """
    # bitsandbytes rearranges the weights in its first pass: no two threads may do that at once.
    read(todo[-1:])
    with Progress(what, sum(len(s.ids) for s in todo), unit="tokens") as progress:
        for part, found in in_shards(
            todo,
            read,
            size=SHARD_ITEMS,
            length=lambda s: len(s.ids),
            budget=budget,
            progress=lambda batch: progress.update(sum(len(s.ids) for s in batch)),
        ):
            shards.add([s.key for s in part], [item for items in found for item in items])
