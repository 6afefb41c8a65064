"""The bytes of a file on this machine, unpacked, wherever and however it is stored."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from common.errors import Code, UserError

MOST_UNPACKED, ALWAYS_UNPACKED = 100, 2**28
"""A gzipped file may unpack to so many times its size, and to so many bytes in any case. Text packs
to a third or a tenth; a file that packs to a thousandth was made to fill the memory."""

GZIP = b"\x1f\x8b"

CHUNK_BYTES = 2**20
"""Bytes that are copied at a time."""


@contextmanager
def local_copy(source: str) -> Iterator[Path]:
    """Yield a path of this machine with the unpacked bytes of a file.

    A remote or packed file is copied to a temporary file, which is removed with the context.

    Args:
        source: local path, or any URL that fsspec opens.

    Raises:
        UserError: the file does not exist, cannot be read, or is damaged gzip.
    """
    with ExitStack() as stack:
        yield _unpacked(source, _downloaded(source, stack), stack)


def _downloaded(source: str, stack: ExitStack) -> Path:
    try:
        opened = fsspec.open(source, "rb")
        with opened as file:
            path = Path(opened.path)
            if not (isinstance(opened.fs, LocalFileSystem) and path.is_file()):
                copy = stack.enter_context(NamedTemporaryFile())  # noqa: SIM115
                shutil.copyfileobj(file, copy, CHUNK_BYTES)
                copy.flush()
                path = Path(copy.name)
            return path
    except FileNotFoundError:
        raise UserError(
            Code.INPUT_MISSING, f"{source} does not exist. Check the path or URL."
        ) from None
    except MemoryError:
        raise
    except Exception as error:
        # Every remote filesystem of fsspec raises errors of its own, with no common base.
        raise UserError(
            Code.INPUT_UNREADABLE,
            f"{source} cannot be opened ({first_line(error)}). Check the path or URL.",
        ) from None


def _unpacked(source: str, path: Path, stack: ExitStack) -> Path:
    with path.open("rb") as packed:
        if packed.read(2) != GZIP:
            return path
        packed.seek(0)
        unpacked = stack.enter_context(NamedTemporaryFile())  # noqa: SIM115
        try:
            _unpack(source, packed, path.stat().st_size, unpacked)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(
                Code.INPUT_DAMAGED,
                f"{source} is damaged gzip ({first_line(error)}): download it again",
            ) from None
    return Path(unpacked.name)


def _unpack(source: str, packed: IO[bytes], size: int, to: IO[bytes]) -> None:
    """Write the content of a gzipped file of ``size`` bytes, up to its limit."""
    most = max(MOST_UNPACKED * size, ALWAYS_UNPACKED)
    with gzip.GzipFile(fileobj=packed) as file:
        for chunk in read_chunks(file):
            if to.tell() + len(chunk) > most:
                raise UserError(
                    Code.INPUT_UNPACKS_TOO_LARGE,
                    f"{source} unpacks to more than {most:,} bytes, {MOST_UNPACKED} times "
                    "its size or more. If that is right, unpack it and give the unpacked file.",
                )
            to.write(chunk)
    to.flush()


def read_chunks(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """The rest of a file, ``CHUNK_BYTES`` at a time."""
    return iter(lambda: file.read(CHUNK_BYTES), b"")


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
