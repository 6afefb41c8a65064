"""Stores of items in memory, with the methods of those on disk, and models that stay loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import RLock
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from embeddings.cache.shards import K

MOST_ITEMS = 4_096
"""Items that a store in memory keeps of former calls: some 40 MB of a small model's states."""

Model = TypeVar("Model")


class Store(Protocol):
    """Items by content address: ``embeddings.cache.shards.ShardWriter``, or the same in memory."""

    def missing(self, items: Sequence[K]) -> list[K]:
        """The items that are not there, in their order."""

    def add(self, keys: Sequence[bytes], arrays: Mapping[str, torch.Tensor]) -> None:
        """Add items; row i of each array belongs to item i, or ``arrays`` are ``ragged``."""

    def require(self, keys: np.ndarray) -> np.ndarray:
        """Places of the items of ``keys``, uint8 (n, 32), for ``rows``; int64 (n,)."""

    def rows(self, places: np.ndarray, name: str, column: int | None = None) -> np.ndarray:
        """One array's rows of the items at ``places``, in their order."""

    def get(self, key: bytes) -> torch.Tensor:
        """The rows of one item of a store of different lengths."""


class MemoryStore:
    """Items in memory; the least recently used are dropped where there are too many."""

    def __init__(self, most_items: int = MOST_ITEMS) -> None:
        """Begin empty.

        Args:
            most_items: how many are kept; one call may need more, and has them until the next.
        """
        self._most_items = most_items
        self._items: dict[bytes, dict[str, torch.Tensor]] = {}

    def __len__(self) -> int:
        """How many items are there."""
        return len(self._items)

    def missing(self, items: Sequence[K]) -> list[K]:
        """The items that are not there, in their order; the others count as used now.

        Makes room for what is missing, but drops none of ``items``.
        """
        keys = {item.key for item in items}
        used = {key: self._items.pop(key) for key in keys if key in self._items}
        too_many = len(self._items) + len(keys) - self._most_items
        for key in list(self._items)[: max(0, too_many)]:
            del self._items[key]
        self._items |= used
        return [item for item in items if item.key not in used]

    def add(self, keys: Sequence[bytes], arrays: Mapping[str, torch.Tensor]) -> None:
        """Add items; row i of each array belongs to item i, or ``arrays`` are ``ragged``."""
        if "ends" in arrays:
            sizes = arrays["ends"].diff(prepend=torch.zeros(1, dtype=torch.int64)).tolist()
            rows = [{"values": values.clone()} for values in torch.split(arrays["values"], sizes)]
        else:
            # A row's copy does not keep its whole shard in memory.
            rows = [{n: array[i].clone() for n, array in arrays.items()} for i in range(len(keys))]
        self._items |= zip(keys, rows, strict=True)

    def require(self, keys: np.ndarray) -> np.ndarray:
        """Places of the items of ``keys``, uint8 (n, 32), for ``rows``; int64 (n,).

        Raises:
            KeyError: an item is not there.
        """
        places = {key: place for place, key in enumerate(self._items)}
        return np.array([places[key.tobytes()] for key in keys], dtype=np.int64)

    def rows(self, places: np.ndarray, name: str, column: int | None = None) -> np.ndarray:
        """One array's rows of the items at ``places``, in their order.

        Args:
            places: as ``require`` gave them, n; they may repeat.
            name: of an array that has a row for each item.
            column: take this alone of the array's second axis.

        Returns:
            Shape (n, ...), or (n, ...) without the second axis; (0,) of no place.
        """
        if not len(places):
            return np.empty(0)
        items = list(self._items.values())
        rows = [items[place][name] for place in places]
        values = torch.stack([row if column is None else row[column] for row in rows])
        return values.numpy()

    def get(self, key: bytes) -> torch.Tensor:
        """The rows of one item of a store of different lengths; ``KeyError`` without it."""
        return self._items[key]["values"]


def exclusive(shared: dict[Any, Any] | None) -> AbstractContextManager[object]:
    """Let one thread at a time use what ``shared`` holds: models, and stores that drop items."""
    return nullcontext() if shared is None else shared.setdefault("lock", RLock())


def kept(shared: dict[Any, Any] | None, key: Any, make: Callable[[], Model]) -> Model:
    """What ``shared`` has under a key, made where it is not there; made anew without ``shared``.

    Of threads that need the same model at once, one loads it and the others wait.

    Args:
        shared: see ``arena.view.View.of_run``.
        key: says all that the model depends on.
        make: loads it.
    """
    if shared is None:
        return make()
    with exclusive(shared):
        if key not in shared:
            shared[key] = make()
    model: Model = shared[key]
    return model
