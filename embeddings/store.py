"""The store of evidence: shards of items by content, each whole or not there.

A shard is a safetensors file of ``keys`` (uint8, n x 32), ``states`` (float16, n x slots x d) and
``likelihood`` (float32, n x quantities). Its name is the hash of its keys, and its only metadata
entry (several would be written in no fixed order) the hash of its tensors. One process at a time
writes a store.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from arena.errors import UserError
from arena.files import atomic, write_json

SHARD_ITEMS = 64


def settings_hash(settings: Mapping[str, object]) -> str:
    """Hash whatever changes the numbers in a store; 16 hex digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Shard:
    """The content of one shard; row i of every array is one item."""

    keys: np.ndarray
    states: np.ndarray
    likelihood: np.ndarray

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The arrays by the names they have in the file."""
        return {"keys": self.keys, "likelihood": self.likelihood, "states": self.states}

    def checksum(self) -> str:
        """Hash of names, dtypes, shapes and bytes of all arrays."""
        h = hashlib.sha256()
        for name, array in self.tensors.items():
            h.update(f"{name} {array.dtype} {array.shape};".encode())
            h.update(np.ascontiguousarray(array).tobytes())
        return h.hexdigest()

    def file_name(self) -> str:
        """Name of the shard's file: the hash of its keys."""
        return hashlib.sha256(self.keys.tobytes()).hexdigest()[:32] + ".safetensors"


class CorruptShardError(Exception):
    """A file of the store is not what was written."""


def read_shard(path: Path) -> Shard:
    """Read a shard and check it.

    Raises:
        CorruptShardError: it is cut short, changed, or no shard at all.
    """
    try:
        with safe_open(path, framework="numpy") as f:
            shard = Shard(*(f.get_tensor(n) for n in ("keys", "states", "likelihood")))
            written = (f.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptShardError(str(error)) from error
    if written != shard.checksum() or path.name != shard.file_name():
        raise CorruptShardError("its checksum does not fit")
    return shard


class Store:
    """The shards of one folder, which belongs to one settings hash."""

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        """Open or begin the store; remove what a crash left and shards that are corrupt.

        Args:
            folder: where the shards lie.
            settings: what the folder's name is the hash of, kept beside the shards for people.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()
        if not (folder / "settings.json").exists():
            write_json(folder / "settings.json", dict(settings))
        self.where: dict[bytes, tuple[Path, int]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                self._index(path, read_shard(path))
            except CorruptShardError as error:
                print(
                    f"{path} is corrupt ({error}): removed, its evidence is made again",
                    file=sys.stderr,
                )
                path.unlink()

    def __contains__(self, key: bytes) -> bool:
        return key in self.where

    def add(self, shard: Shard) -> None:
        """Write a shard, atomically."""
        path = self.folder / shard.file_name()
        with atomic(path) as temporary:
            save_file(shard.tensors, temporary, metadata={"sha256": shard.checksum()})
        self._index(path, shard)

    def _index(self, path: Path, shard: Shard) -> None:
        for row, key in enumerate(shard.keys):
            self.where[key.tobytes()] = (path, row)


def gather(folder: Path, keys: Sequence[bytes], name: str) -> np.ndarray:
    """Collect one array of the items ``keys``, which may repeat, from a folder's shards.

    Args:
        folder: the store.
        keys: content addresses, 32 bytes each.
        name: ``states`` or ``likelihood``.

    Returns:
        The array's rows in the order of ``keys``; shape (len(keys), ...).

    Raises:
        UserError: a shard is corrupt, or an item is missing.
    """
    again = "run `python pipelines/extract.py` with the same files again"
    rows: dict[bytes, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    gathered: np.ndarray | None = None
    for path in sorted(folder.glob("*.safetensors")):
        try:
            shard = read_shard(path)
        except CorruptShardError as error:
            raise UserError(f"{path} is corrupt ({error}): {again}") from error
        array = shard.tensors[name]
        if gathered is None:
            gathered = np.empty((len(keys), *array.shape[1:]), dtype=array.dtype)
        for row, key in enumerate(shard.keys):
            for to in rows.pop(key.tobytes(), []):
                gathered[to] = array[row]
    if rows:
        raise UserError(f"{folder} lacks evidence of {len(rows):,} answers: {again}")
    return np.empty((0, 0, 0), dtype=np.float16) if gathered is None else gathered
