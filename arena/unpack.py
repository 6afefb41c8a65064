"""Packed files: gzip, bzip2, xz, zstd, lz4 and zip, each with a bound on what it unpacks to."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import pyarrow as pa

from arena.file_kinds import EXPORT, NO_CODE
from common.errors import Code, UserError

MOST_UNPACKED, ALWAYS_UNPACKED = 100, 2**28
"""A packed file may unpack to so many times its size, and to so many bytes in any case. Text packs
to a third or a tenth; a file that packs to a thousandth was made to fill the memory."""

CHUNK_BYTES = 2**20
"""Bytes that are copied at a time."""

ZIP = (b"PK\x03\x04", b"PK\x05\x06")

SHOWN = 5
"""Names of files that a message lists."""

DAMAGE = (
    *(OSError, EOFError, ValueError, RuntimeError, OverflowError, struct.error),
    *(BadZipFile, zlib.error, lzma.LZMAError, pa.ArrowException),
)
"""What the libraries raise on damaged bytes."""


# fsspec reads zstd by `zstandard`, to which a file that is cut short is whole; not so pyarrow.
def _arrow(codec: str) -> Callable[[IO[bytes]], Any]:
    return lambda file: pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)


PACKINGS: tuple[tuple[str, tuple[bytes, ...], Callable[[IO[bytes]], Any]], ...] = (
    ("gzip", (b"\x1f\x8b",), lambda file: gzip.GzipFile(fileobj=file)),
    ("bzip2", tuple(b"BZh%d" % level for level in range(1, 10)), bz2.BZ2File),
    ("xz", (b"\xfd7zXZ\0", b"\x5d\0\0"), lzma.LZMAFile),
    (
        "zstd",
        # A file of several frames may begin with one to skip.
        (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16))),
        _arrow("zstd"),
    ),
    ("lz4", (b"\x04\x22\x4d\x18",), _arrow("lz4")),
)
"""Name, first bytes and reader of each packing of a single file."""

OFFICE = (
    ("xl/workbook.bin", "an Excel file in the binary format (.xlsb)", "Save it as .xlsx."),
    ("word/document.xml", "a Word document", EXPORT),
    ("content.xml", "an OpenDocument file", "Save it as .xlsx or as CSV UTF-8."),
    (".npy", "a file of NumPy arrays", EXPORT),
    ("data.pkl", "a checkpoint of PyTorch", NO_CODE),
)
"""Ends of the names in a zip that tell what it is, and what to do."""


def packing_of(head: bytes) -> str:
    """The packing of a file by its first bytes, "" for none."""
    if head.startswith(ZIP):
        return "zip"
    return next((name for name, marks, _ in PACKINGS if head.startswith(marks)), "")


def limit_of(size: int) -> int:
    """Bytes that a packed file of ``size`` bytes may unpack to."""
    return max(MOST_UNPACKED * size, ALWAYS_UNPACKED)


def unpacked(source: str, path: Path, packing: str, most: int) -> Iterator[bytes]:
    """The content of a packed file, chunk by chunk.

    Args:
        source: what a message calls it.
        path: the file.
        packing: as of :func:`packing_of`, no zip.
        most: bytes that it may unpack to.

    Raises:
        UserError: it is damaged, or unpacks to more.
    """
    (reader,) = (reader for name, _, reader in PACKINGS if name == packing)
    with path.open("rb") as file:
        yield from _bounded(source, packing, lambda: reader(file), most)


def workbook(source: str, path: Path, most: int) -> bool:
    """Whether a zip is an Excel workbook.

    Raises:
        UserError: it is damaged, too large, or a file of another program.
    """
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
    except DAMAGE as error:
        raise _damaged(source, "zip", error) from None
    names = [member.filename for member in members]
    if "xl/workbook.xml" in names:
        # Who reads it takes of each member no more than the size that it claims.
        if sum(member.file_size for member in members) > most:
            raise _too_large(source, most)
        return True
    for end, kind, advice in OFFICE:
        if any(name.endswith(end) for name in names):
            raise UserError(Code.INPUT_FORMAT, f"{source} is {kind}. {advice}")
    return False


def unzipped(source: str, path: Path, most: int, name: str = "") -> Iterator[bytes]:
    """The content of one file in a zip, chunk by chunk.

    Args:
        source: what a message calls the zip.
        path: the zip.
        most: bytes that the file may have.
        name: of the file; "" for the only one that holds data.

    Raises:
        UserError: there is no such file, or there are several; it is damaged or larger.
    """
    try:
        with ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except DAMAGE as error:
        raise _damaged(source, "zip", error) from None
    if name not in names:
        name = _only_data(source, names, name)
    with ZipFile(path) as archive:
        yield from _bounded(source, "zip", lambda: archive.open(name), most)


def _only_data(source: str, names: list[str], name: str) -> str:
    """The only file in a zip that may hold data."""
    if name:
        raise UserError(
            Code.INPUT_MISSING, f"{source} holds no {name}. It holds: {_listed(names)}."
        )
    data = [
        n
        for n in names
        if not n.startswith("__MACOSX/") and not n.rsplit("/", 1)[-1].startswith(".")
    ]
    if len(data) > 1:
        data = [n for n in data if is_data(n)]
    if not data:
        raise UserError(
            Code.INPUT_MISSING,
            f"{source} is a zip without a file of data. It holds: {_listed(names)}.",
        )
    if len(data) > 1:
        raise UserError(
            Code.INPUT_FORMAT,
            f"{source} is a zip of {len(data)} files of data: {_listed(data)}. Name one: "
            f"zip://{data[0]}::{source}",
        )
    return data[0]


DATA_ENDINGS = (
    *("csv", "tsv", "tab", "psv", "txt", "json", "jsonl", "ndjson"),
    *("parquet", "pq", "arrow", "feather", "ipc", "xlsx"),
)

PACKED_ENDINGS = ("gz", "bz2", "xz", "lzma", "zst", "zstd", "lz4", "zip")


def is_data(name: str) -> bool:
    """Whether a file among others is one of data, by its name."""
    return data_ending(name) != ""


def data_ending(name: str) -> str:
    """The ending that tells the format of a file among others, packed or not; "" for none."""
    endings = name.lower().rsplit("/", 1)[-1].split(".")[1:]
    if endings and endings[-1] in PACKED_ENDINGS:
        endings.pop()
    return endings[-1] if endings and endings[-1] in DATA_ENDINGS else ""


def _listed(names: list[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown or "nothing"


def _bounded(source: str, packing: str, reader: Callable[[], Any], most: int) -> Iterator[bytes]:
    total = 0
    try:
        with reader() as file:
            for chunk in read_chunks(file):
                total += len(chunk)
                if total > most:
                    raise _too_large(source, most)
                yield chunk
    except DAMAGE as error:
        raise _damaged(source, packing, error) from None


def _too_large(source: str, most: int) -> UserError:
    return UserError(
        Code.INPUT_UNPACKS_TOO_LARGE,
        f"{source} unpacks to more than {most:,} bytes, {MOST_UNPACKED} times "
        "its size or more. If that is right, unpack it and give the unpacked file.",
    )


def _damaged(source: str, packing: str, error: Exception) -> UserError:
    return UserError(
        Code.INPUT_DAMAGED,
        f"{source} is a {packing} file that cannot be unpacked ({first_line(error)}). Download it "
        "again, or unpack it yourself.",
    )


def read_chunks(file: Any) -> Iterator[bytes]:
    """The rest of a file, ``CHUNK_BYTES`` at a time."""
    return iter(lambda: file.read(CHUNK_BYTES), b"")


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
