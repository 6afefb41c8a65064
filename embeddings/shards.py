"""Arrays of different lengths by content address, in shards that are each whole or not there.

A shard is a safetensors file of ``keys`` (uint8, n x 32), ``ends`` (int64, n: where each item's
rows end) and ``values`` (rows of all items, one after the other). It is read through a memory map,
so a folder may be far larger than memory. One process at a time writes a folder.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from arena.files import atomic
from arena.progress import Progress
from embeddings import pairs

SHARD_ITEMS = 64


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


def batches(lengths: Sequence[int], budget: int) -> Iterator[slice]:
    """Cut a row of sequences into batches of at most ``budget`` tokens with padding.

    A sequence that alone exceeds the budget is a batch.

    Args:
        lengths: tokens of each sequence.
        budget: most tokens; 0 makes every sequence a batch.
    """
    begin, longest = 0, 0
    for end, length in enumerate(lengths):
        longest = max(longest, length)
        if end > begin and longest * (end + 1 - begin) > budget:
            yield slice(begin, end)
            begin, longest = end, length
    if begin < len(lengths):
        yield slice(begin, len(lengths))


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
        budget: tokens of a batch on a GPU; 0 on a CPU, which reads sequences one by one, on one
            thread each and on all its cores at once (``embeddings.evidence.fill`` says why).
    """
    threads = torch.get_num_threads()
    total = sum(len(s.ids) for s in todo)
    # bitsandbytes rearranges the weights in its first pass: no two threads may do that at once.
    read(todo[-1:])
    with (
        Progress(what, total, unit="tokens") as progress,
        ThreadPoolExecutor(1 if budget else threads, initializer=_one_thread) as pool,
    ):
        for begin in range(0, len(todo), SHARD_ITEMS):
            part = todo[begin : begin + SHARD_ITEMS]
            grouped = [part[s] for s in batches([len(s.ids) for s in part], budget)]
            found: list[torch.Tensor] = []
            for batch, items in zip(grouped, pool.map(read, grouped), strict=True):
                found += items
                progress.update(sum(len(s.ids) for s in batch))
            shards.add([s.key for s in part], found)
    torch.set_num_threads(threads)


def _one_thread() -> None:
    torch.set_num_threads(1)
