"""The bytes of a file on this machine, unpacked, wherever and however it is stored."""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from arena.file_kinds import HEAD
from arena.unpack import (
    first_line,
    limit_of,
    packing_of,
    read_chunks,
    unpacked,
    unzipped,
    workbook,
)
from common.errors import Code, UserError
from common.files import expanded

STDIN = "-"
"""The name of the standard input."""

MOST_PIPED = 2**34
"""Bytes that are taken from a pipe, which has no size to be seen: 16 GiB."""

LAYERS = 2
"""A packed file may hold a packed file, no more."""


@contextmanager
def local_copy(source: str) -> Iterator[Path]:
    """Yield a path of this machine with the unpacked bytes of a file.

    A file that is remote, packed or a pipe is copied to a temporary file, which is removed with the
    context. An Excel workbook stays as it is.

    Args:
        source: local path, ``-`` for the standard input, any URL that fsspec opens, or
            ``zip://NAME::ZIP`` for one of several files in a zip.

    Raises:
        UserError: the file does not exist, cannot be read, or is damaged.
    """
    with ExitStack() as stack:
        member = re.fullmatch(r"zip://(.+?)::(.+)", source, re.DOTALL)
        path = _fetched(member[2] if member else source, stack)
        most = limit_of(path.stat().st_size)
        if member:
            path = _kept(unzipped(member[2], path, most, member[1]), source, stack)
        for layer in range(LAYERS + 1):
            with path.open("rb") as file:
                packing = packing_of(file.read(HEAD))
            if not packing or (packing == "zip" and workbook(source, path, most)):
                break
            if layer == LAYERS:
                raise UserError(
                    Code.INPUT_FORMAT, f"{source} is packed more than {LAYERS} times. Unpack it."
                )
            chunks = (
                unzipped(source, path, most)
                if packing == "zip"
                else unpacked(source, path, packing, most)
            )
            path = _kept(chunks, source, stack)
        yield path


def _fetched(source: str, stack: ExitStack) -> Path:
    """A path of this machine with the bytes of a file."""
    with opening(source):
        if source == STDIN:
            return _kept(_piped(sys.stdin.buffer), "standard input", stack)
        path = expanded(source)
        if not path.exists():
            return _downloaded(source, stack)
        with path.open("rb") as file:
            return path if path.is_file() else _kept(_piped(file), source, stack)


@contextmanager
def opening(source: str) -> Iterator[None]:
    """Raise what goes wrong while a file or folder is opened as a ``UserError``, by the reason."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except OSError as error:
        raise unreadable(source, error) from None
    except Exception as error:
        # Every remote filesystem of fsspec raises errors of its own, with no common base.
        raise UserError(
            Code.INPUT_UNREADABLE,
            f"{_short(source)} cannot be opened ({first_line(error)}). Check the URL, the "
            "connection and the permission.",
        ) from None


def _piped(file: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a pipe, which can be read but once."""
    if file.isatty():
        raise UserError(
            Code.INPUT_MISSING, "Standard input is a terminal. Pipe a file into the command."
        )
    total = 0
    for chunk in read_chunks(file):
        total += len(chunk)
        if total > MOST_PIPED:
            raise UserError(
                Code.INPUT_UNREADABLE,
                f"More than {MOST_PIPED:,} bytes came through the pipe. Give them as a file.",
            )
        yield chunk


def _downloaded(source: str, stack: ExitStack) -> Path:
    """A copy of what a URL names."""
    if "://" not in source and "::" not in source:
        raise FileNotFoundError(source)
    opened = fsspec.open(source, "rb")
    with opened as file:
        path = Path(opened.path)
        local = isinstance(opened.fs, LocalFileSystem) and path.is_file()
        return path if local else _kept(read_chunks(file), source, stack)


def unreadable(source: str, error: OSError) -> UserError:
    """What a user is told of a file that the operating system does not give, by the reason."""
    name, said = _short(source), os.strerror(error.errno) if error.errno else first_line(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UserError(Code.INPUT_MISSING, f"{name} does not exist. Check the path or URL.")
    if error.errno == errno.ENAMETOOLONG:
        return UserError(
            Code.INPUT_MISSING, f"{name} is too long for a path. Write the text into a file."
        )
    if isinstance(error, IsADirectoryError):
        advice = "is a folder. Name a file in it."
    elif isinstance(error, PermissionError):
        advice = f"may not be read ({said}). Ask its owner for permission, or copy it."
    else:
        advice = f"cannot be read ({said})."
    return UserError(Code.INPUT_UNREADABLE, f"{name} {advice}")


def _short(source: str) -> str:
    return source if len(source) <= 300 else f"{source[:100]}…"


def _kept(chunks: Iterable[bytes], source: str, stack: ExitStack) -> Path:
    """A temporary file of these bytes, which goes with ``stack``."""
    try:
        # Closed once it is written: a folder may have more shards than a process may open files.
        copy = NamedTemporaryFile(delete=False)  # noqa: SIM115
    except OSError as error:
        raise UserError(
            Code.SYSTEM_ERROR,
            f"{source} must be copied, and no temporary folder can be written "
            f"({first_line(error)}). Name a folder in the environment variable TMPDIR.",
        ) from None
    path = Path(copy.name)
    stack.callback(path.unlink, missing_ok=True)
    with copy:
        for chunk in chunks:
            _write(copy, chunk, source)
    return path


def _write(copy: IO[bytes], chunk: bytes, source: str) -> None:
    try:
        copy.write(chunk)
        copy.flush()
    except OSError as error:
        folder = tempfile.gettempdir()
        raise UserError(
            Code.SYSTEM_ERROR,
            f"{source} cannot be copied to the temporary folder {folder} ({error.strerror}). Make "
            "room there, or name another folder in the environment variable TMPDIR.",
        ) from None
