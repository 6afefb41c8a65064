"""Bytes of a file to rows of cells, whatever its format, its packing and the place where it is.

The first bytes tell the format, never the name. No row is lost here: one that cannot be read keeps
its place, with the reason in ``Row.damage``.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from arena.columnar import columnar_format, read_columnar
from arena.csv_records import has_wanted_header, read_csv
from arena.excel import read_excel
from arena.file_kinds import HEAD, encoding_of, refuse_other_kinds
from arena.json_values import first_character, is_json, read_json
from arena.local_copy import local_copy
from arena.rows import Source, Stream, is_foreign, refuse_wrong_encoding
from arena.unpack import packing_of, read_chunks
from common.errors import Code, UserError


def read_source(source: str, wanted: Collection[str]) -> Source:
    """Read a file as a whole; see :func:`open_source`.

    Raises:
        UserError: also where most rows are not UTF-8.
    """
    with open_source(source, wanted) as stream:
        file = Source(stream.columns, list(stream.rows))
    refuse_wrong_encoding(source, sum(map(is_foreign, file.rows)), len(file.rows))
    return file


@contextmanager
def open_source(source: str, wanted: Collection[str], limit: int | None = None) -> Iterator[Stream]:
    """Open a file: CSV with any separator, JSON, parquet, Arrow or Excel, packed or not.

    What is remote, packed or a pipe is copied to a temporary file. Memory holds a few rows at a
    time; all of an Excel workbook and of JSON that wraps its rows in one object.

    Args:
        source: as for :func:`arena.local_copy.local_copy`.
        wanted: columns whose cells are kept. A column is named as it is wanted, however the file
            spells it; see :func:`arena.column_names.match_columns`.
        limit: keep the first so many data rows.

    Raises:
        UserError: the file is not there, empty, damaged, or of a kind that is not read; also while
            its rows are read.
    """
    with local_copy(source) as path:
        yield _stream("standard input" if source == "-" else source, path, wanted, limit)


def _stream(source: str, path: Path, wanted: Collection[str], limit: int | None) -> Stream:
    with path.open("rb") as file:
        head = file.read(HEAD)
        # Blank to the end, however long.
        if all(chunk.isspace() for chunk in itertools.chain([head], read_chunks(file)) if chunk):
            raise UserError(
                Code.INPUT_EMPTY,
                f"{source} is empty. Give a file that has a header and at least one row.",
            )
    if kind := columnar_format(head):
        return read_columnar(source, path, kind, wanted, limit)
    if packing_of(head):
        return read_excel(source, path, wanted, limit)
    refuse_other_kinds(source, head)
    encoding = encoding_of(head)
    # Surrogates stand for undecodable bytes, so that only their row is set aside.
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"

    def text() -> TextIO:
        return path.open(encoding=encoding, errors=errors, newline="")

    if first_character(text) in ("{", "["):
        return read_json(source, text, wanted, limit)
    if not has_wanted_header(text, wanted) and is_json(text):
        # Its first line is damaged.
        return read_json(source, text, wanted, limit)
    return read_csv(source, text, wanted, limit)
