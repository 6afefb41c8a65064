"""What a file is, by its first bytes, and what to do with one that is no table of battles."""

from __future__ import annotations

import codecs

from common.errors import Code, UserError

HEAD = 4096
"""First bytes of a file that tell its kind."""

ENCODINGS = (
    # UTF-32 first: its mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

EXPORT = "Export the table as CSV, parquet or JSON lines."
UNPACK = "Unpack it and give the file in it."
NO_CODE = "It may run code when it is opened, so it is not opened here. Write it as parquet."

REFUSED = (
    (0, b"%PDF-", "a PDF", EXPORT),
    (0, b"SQLite format 3\0", "an SQLite database", EXPORT),
    (8, b"DUCK", "a DuckDB database", EXPORT),
    (0, b"\x93NUMPY", "a NumPy array", EXPORT),
    *((0, bytes([0x80, protocol]), "a Python pickle", NO_CODE) for protocol in range(2, 6)),
    (
        0,
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an old Excel file (.xls), or one with a password",
        "Save it as .xlsx without a password, or as CSV UTF-8.",
    ),
    (
        0,
        b"version https://git-lfs",
        "a pointer of Git LFS, not the file itself",
        "Run `git lfs pull` in its clone, or download the file again.",
    ),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (0, b"\x1f\x9d", "a file of compress (.Z)", UNPACK),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", EXPORT),
    (0, b"ORC", "an ORC file", EXPORT),
    (0, b"Obj\x01", "an Avro file", EXPORT),
    (0, b"FEA1", "a file of feather version 1", "Write it again as version 2, or as parquet."),
    (0, b"<stata_dta>", "a Stata file", EXPORT),
    (0, b"PARE", "an encrypted parquet file", "Write it without encryption."),
    (0, b"RDX", "an R workspace", EXPORT),
    (0, b"GGUF", "the weights of a language model", "Give a file of battles."),
    (0, b"{\\rtf", "a document in RTF", EXPORT),
    (0, b"\x89PNG", "an image", "Give a file of battles."),
    (0, b"\xff\xd8\xff", "an image", "Give a file of battles."),
    (0, b"GIF8", "an image", "Give a file of battles."),
)
"""Place and bytes of the mark of a kind that is not read, what it is, and what to do."""


def refuse_other_kinds(source: str, head: bytes) -> None:
    """Raise ``UserError`` where the first bytes of a file are those of a kind that is not read."""
    for place, mark, kind, advice in REFUSED:
        if head[place:].startswith(mark):
            raise UserError(Code.INPUT_FORMAT, f"{source} is {kind}. {advice}")
    start = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<table")):
        raise UserError(
            Code.INPUT_FORMAT,
            f"{source} is a web page, perhaps of a login, not the file itself. Download the file: "
            "on Hugging Face its address has `resolve` for `blob`, on GitHub it is that of Raw.",
        )
    if start.startswith(b"<?xml"):
        raise UserError(Code.INPUT_FORMAT, f"{source} is XML. {EXPORT}")


def encoding_of(head: bytes) -> str:
    """The encoding of a text by its mark, or by the zeros that UTF-16 has between plain letters."""
    for mark, encoding in ENCODINGS:
        if head.startswith(mark):
            return encoding
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if min(even, odd) == 0 and 2 * max(even, odd) > len(head[1::2]):
        return "utf-16-le" if odd else "utf-16-be"
    return "utf-8-sig"
