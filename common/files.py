"""Files that are either complete or absent."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import Code, UserError


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file beside ``path``, which is removed in the end.

    After a kill -9, :func:`remove_unfinished` removes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and move it into place.

    After a crash or kill -9 ``path`` holds either its old content or the whole new one.
    """
    with scratch(path) as temporary:
        yield temporary
        with temporary.open("rb") as f:
            os.fsync(f.fileno())
        temporary.replace(path)


def check_writable(path: Path, advice: str) -> None:
    """Find out whether a file can be written, before work is done for it.

    Args:
        path: the file.
        advice: what to do otherwise, a sentence.

    Raises:
        UserError: it cannot.
    """
    try:
        with scratch(path) as temporary:
            temporary.touch()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            Code.OUTPUT_INVALID, f"{path} cannot be written ({reason}). {advice}"
        ) from None


def remove_unfinished(path: Path) -> None:
    """Remove files that :func:`atomic` left where its process was killed; links are not followed.

    Args:
        path: the file that was to be written, or a folder for all files below it.
    """
    if path.is_symlink():
        return
    if path.is_dir():
        name, places = ".+", [(Path(place), files) for place, _, files in os.walk(path)]
    else:
        siblings = [sibling.name for sibling in path.parent.iterdir()]
        name, places = re.escape(path.name), [(path.parent, siblings)]
    pattern = re.compile(rf"\.{name}\.\d+\.tmp", re.DOTALL)
    for place, files in places:
        for leftover in map(place.joinpath, filter(pattern.fullmatch, files)):
            if leftover.is_file() and not leftover.is_symlink():
                leftover.unlink(missing_ok=True)


def bytes_below(folder: Path) -> int:
    """Bytes of all files in a folder and below; 0 where it is not there."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def free_bytes(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, which may still have to be made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def expanded(path: str) -> Path:
    """A path with its ``~`` replaced; unchanged if that home is unknown."""
    # Path.expanduser raises where there is no such home.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN and infinity raise ``ValueError``."""
    with atomic(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_object(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; ``None`` if the file is damaged or holds another value."""
    try:
        value = read_json(path)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
