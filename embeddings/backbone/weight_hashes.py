"""Remembered hashes of large files: weights take long to read, and seldom change."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import read_json, write_json
from embeddings.backbone.builtin_model import cache_folder

REMEMBERED = 2**26
"""Size in bytes from which a hash is remembered; smaller files are hashed each time."""

SLOW = 2**30
"""Size in bytes from which hashing is announced, for it takes long."""

_known: dict[str, Any] = {}
"""Hashes of this process, whether or not they could be written to the cache."""


def content_hash(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits.

    The hash of a large file is kept in ``hashes.json`` of the cache (``TIEBREAK_CACHE``) and is
    valid as long as path, size, mtime and ctime of the file stay the same. No program can set ctime
    back.
    """
    before = _state(path)
    if before[0] < REMEMBERED:
        return _hash(path)
    name = str(path.resolve())
    for entries in (_known, _read()):
        match entries.get(name):
            case {"state": state, "sha256": str(known)} if state == before:
                if re.fullmatch("[0-9a-f]{64}", known):
                    return known
    if before[0] >= SLOW:
        print(f"hashing {path.name}, {before[0] / 2**30:.1f} GiB, once", flush=True)
    sha256 = _hash(path)
    if _state(path) == before:
        _known[name] = {"state": before, "sha256": sha256}
        _write()
    return sha256


def _state(path: Path) -> list[int]:
    """Size, and the times of the last change of content and of anything, in ns."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read() -> dict[str, Any]:
    """The hashes in the cache; none where it cannot be read."""
    try:
        entries = read_json(cache_folder() / "hashes.json")
    except (OSError, ValueError, RecursionError, UserError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _write() -> None:
    """Write the hashes of this process to the cache; a read-only cache stays as it is."""
    with suppress(OSError, UserError):
        write_json(cache_folder() / "hashes.json", {**_read(), **_known})
