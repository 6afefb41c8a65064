"""A store of items by content address, in shards, each of which is whole or absent.

A shard is a safetensors file of ``keys`` (uint8, n x 32) and arrays whose row i belongs to item i.
Where items have different lengths the arrays are ``values`` (the rows of all items, one after the
other) and ``ends`` (int64, n: where each item's rows end). A shard's name is the hash of its keys,
and it carries the checksum of its arrays (``embeddings.cache.tensor_files``).

Shards are read through memory maps, so a store may be far larger than memory. A process checks the
hash of a shard before it first reads a value of it. One process at a time writes a store; any
number may read it.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from common.errors import Code, UserError
from common.files import remove_unfinished, write_json
from embeddings.cache.tensor_files import DamagedError, read_tensors, write_tensors

EXTRACT = "python pipelines/extract.py"

SHARD_ITEMS = 64

NDIM = {"keys": 2, "states": 3, "likelihood": 2, "values": 2, "ends": 1}
"""Dimensions of the arrays that shards have."""

SHARD_NAME = re.compile(r"[0-9a-f]{32}\.safetensors")

OPEN_SHARDS = 64
"""Memory maps that a store keeps: what was read through them counts as the process's memory."""


class Keyed(Protocol):
    """Anything with a content address."""

    @property
    def key(self) -> bytes:
        """32 bytes."""


K = TypeVar("K", bound=Keyed)

Identity = tuple[Path, int, int, int]
_checked: set[Identity] = set()
"""Shards whose checksum this process has compared."""


def settings_hash(settings: Mapping[str, object]) -> str:
    """Hash whatever changes the numbers in a store; 16 hex digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def as_keys(keys: Sequence[bytes]) -> np.ndarray:
    """Content addresses of 32 bytes each as uint8 (n, 32)."""
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 32)


def ragged(items: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The arrays of a shard of items (rows, width) of different lengths, one width and dtype."""
    ends = torch.tensor([len(item) for item in items]).cumsum(0)
    return {"ends": ends, "values": torch.cat(list(items))}


def read_keys(path: Path) -> np.ndarray:
    """The keys of a shard, uint8 (n, 32); its arrays are not looked at.

    Raises:
        DamagedError: it is cut short, or its keys are not those that its name says.
    """
    try:
        with safe_open(path, framework="pt") as file:
            keys: np.ndarray = file.get_tensor("keys").numpy().copy()
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise DamagedError(str(error)) from error
    if keys.dtype != np.uint8 or keys.shape[1:] != (32,) or path.name != _file_name(keys):
        raise DamagedError("its keys are not those of its name")
    return keys


def check(path: Path) -> None:
    """Compare a shard with its checksum, unless this process did so before.

    Raises:
        DamagedError: it is cut short, changed, or no shard at all.
    """
    identity = _identity(path)
    if identity in _checked:
        return
    items = len(read_keys(path))
    if not _has_rows_of_all(read_tensors(path)[0], items):
        raise DamagedError("its arrays are no items' arrays")
    _checked.add(identity)


def _has_rows_of_all(arrays: Mapping[str, torch.Tensor], items: int) -> bool:
    """Whether each of so many items has its rows in every array of a shard."""
    if any(array.ndim != NDIM.get(name) for name, array in arrays.items()):
        return False
    if "ends" not in arrays:
        # numpy has no bfloat16.
        return all(len(a) == items and a.dtype != torch.bfloat16 for a in arrays.values())
    ends = [0, *arrays["ends"].tolist()]
    rows = len(arrays.get("values", ()))
    return len(ends) == items + 1 and ends == sorted(ends) and ends[-1] == rows


def _identity(path: Path) -> Identity:
    try:
        status = path.stat()
    except OSError as error:
        raise DamagedError(str(error)) from error
    return path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns


def _file_name(keys: np.ndarray) -> str:
    return hashlib.sha256(keys.tobytes()).hexdigest()[:32] + ".safetensors"


def _is_shard(path: Path) -> bool:
    """Whether a file has the name of a shard: others are none of the store's."""
    return bool(SHARD_NAME.fullmatch(path.name)) and path.is_file()


class ShardStore:
    """The shards of one folder, to be read."""

    def __init__(self, folder: Path, rerun_command: str = EXTRACT) -> None:
        """Find out what is there.

        Args:
            folder: where the shards lie.
            rerun_command: the command that makes what is missing or damaged, for people.

        Raises:
            UserError: a shard is damaged.
        """
        self.folder, self.rerun_command = folder, rerun_command
        self._paths: list[Path] = []
        # One growing block: thousands of small ones would keep freed memory from being used again.
        self._keys = bytearray()
        self._sizes: list[int] = []
        self._index: _Index | None = None
        # The shard of an item that is read again and again stays open.
        self._file = lru_cache(OPEN_SHARDS)(self._open)
        for path in sorted(filter(_is_shard, folder.glob("*.safetensors"))):
            try:
                self._take(path)
            except DamagedError as error:
                self._reject(path, error)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Places of items, int64 (n,), for ``rows``; -1 where the store has none.

        Args:
            keys: content addresses, uint8 (n, 32).
        """
        return self._indexed().find(keys)

    def missing(self, items: Sequence[K]) -> list[K]:
        """The items that are not there, in their order."""
        places = self.find(as_keys([item.key for item in items]))
        return [item for item, place in zip(items, places, strict=True) if place < 0]

    def require(self, keys: np.ndarray) -> np.ndarray:
        """As ``find``.

        Raises:
            UserError: an item is missing.
        """
        places = self.find(keys)
        missing = len(np.unique(keys[places < 0], axis=0))
        if missing:
            raise UserError(
                Code.STATES_INCOMPLETE,
                f"{self.folder} lacks the numbers of {missing:,} answers. Rerun "
                f"`{self.rerun_command}` with the same files.",
            )
        return places

    def rows(self, places: np.ndarray, name: str, column: int | None = None) -> np.ndarray:
        """One array's rows of the items at ``places``, in their order.

        Args:
            places: as ``require`` gives them, n; they may repeat.
            name: an array that has a row for each item.
            column: take this alone of the array's second axis; nothing else is read.

        Returns:
            Shape (n, ...), or (n, ...) without the second axis.

        Raises:
            UserError: a shard is damaged.
        """
        values: np.ndarray | None = None
        for number, which, rows in self._indexed().by_shard(places):
            try:
                array = self._file(number).get_slice(name)
                array = (array[:] if column is None else array[:, column]).numpy()
                if values is None:
                    values = np.empty((len(places), *array.shape[1:]), dtype=array.dtype)
                values[which] = array[rows]
            except (SafetensorError, LookupError, TypeError, ValueError) as error:
                raise self._damaged(self._paths[number], error) from error
        return np.empty(0) if values is None else values

    def get(self, key: bytes) -> torch.Tensor:
        """The rows of one item of a store of different lengths, mapped: they must not be changed.

        Raises:
            KeyError: it is not there.
            UserError: its shard is damaged.
        """
        places = self.find(as_keys([key]))
        if places[0] < 0:
            raise KeyError(key.hex())
        ((number, _, (row,)),) = self._indexed().by_shard(places)
        file = self._file(number)
        begin, end = [0, *file.get_tensor("ends").tolist()][row : row + 2]
        item: torch.Tensor = file.get_slice("values")[begin:end]
        return item

    def _open(self, number: int) -> Any:
        path = self._paths[number]
        try:
            check(path)
            return safe_open(path, framework="pt")
        except (DamagedError, SafetensorError, OSError) as error:
            raise self._damaged(path, error) from error

    def _indexed(self) -> _Index:
        if self._index is None:
            self._index = _Index(self._keys, self._sizes)
        return self._index

    def _take(self, path: Path) -> None:
        self._remember(path, read_keys(path))

    def _remember(self, path: Path, keys: np.ndarray) -> None:
        self._paths.append(path)
        self._keys += keys.tobytes()
        self._sizes.append(len(keys))
        self._index = None

    def _reject(self, path: Path, error: DamagedError) -> None:
        raise self._damaged(path, error) from error

    def _damaged(self, path: Path, error: Exception) -> UserError:
        return UserError(
            Code.RUN_FILE_DAMAGED,
            f"{path} is damaged ({error}). Rerun `{self.rerun_command}` with the same files.",
        )


class _Index:
    """Where the items of all shards are; a place counts them from the first shard on."""

    def __init__(self, keys: bytearray, sizes: Sequence[int]) -> None:
        self.starts = np.cumsum([0, *sizes])
        names = _names(np.frombuffer(keys, np.uint8).reshape(-1, 32))
        self.places = np.argsort(names, kind="stable")
        self.names = names[self.places]

    def find(self, keys: np.ndarray) -> np.ndarray:
        wanted = _names(keys)
        if not len(self.names):
            return np.full(len(wanted), -1)
        at = np.minimum(np.searchsorted(self.names, wanted), len(self.names) - 1)
        return np.where(self.names[at] == wanted, self.places[at], -1)

    def by_shard(self, places: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Number of a shard, which of ``places`` it holds, and in which of its rows."""
        order = np.argsort(places, kind="stable")
        shards = np.searchsorted(self.starts, places[order], side="right") - 1
        cuts = np.flatnonzero(np.diff(shards)) + 1
        for which in np.split(order, cuts) if len(order) else []:
            number = int(np.searchsorted(self.starts, places[which[0]], side="right")) - 1
            yield number, which, places[which] - self.starts[number]


def _names(keys: np.ndarray) -> np.ndarray:
    """Keys as byte strings of fixed width, which numpy can sort: they differ in zeros too."""
    return np.ascontiguousarray(keys).view("S32").reshape(-1)


class ShardWriter(ShardStore):
    """The shards of one folder, to be written too."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, object] | None = None,
        rerun_command: str = EXTRACT,
    ) -> None:
        """Open or begin the store; remove what a crash left, and shards that are damaged.

        Args:
            folder: where the shards lie; it belongs to one settings hash.
            settings: what that is the hash of, kept beside the shards for people.
            rerun_command: the command that writes it, for people.

        Raises:
            UserError: the folder is a link to another place.
        """
        if folder.is_symlink():
            raise UserError(
                Code.STORE_IS_LINK,
                f"{folder} is a link, and nothing behind a link is changed. Delete it, or put "
                "a copy in its place, and rerun the command.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        if settings is not None and not (folder / "settings.json").exists():
            write_json(folder / "settings.json", dict(settings))
        super().__init__(folder, rerun_command)

    def add(self, keys: Sequence[bytes], arrays: Mapping[str, torch.Tensor | np.ndarray]) -> None:
        """Write a shard of these items, atomically.

        Args:
            keys: content addresses, 32 bytes each, n.
            arrays: row i of each belongs to item i; or what ``ragged`` gives.
        """
        names = as_keys(keys).copy()
        path = self.folder / _file_name(names)
        write_tensors(path, {"keys": names, **arrays})
        _checked.add(_identity(path))
        self._remember(path, names)

    def _take(self, path: Path) -> None:
        check(path)
        super()._take(path)

    def _reject(self, path: Path, error: DamagedError) -> None:
        print(f"{path} is damaged ({error}): removed and made again", file=sys.stderr)
        path.unlink(missing_ok=True)
