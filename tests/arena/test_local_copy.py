"""Files elsewhere, packed files and pipes, and what the operating system refuses."""

import bz2
import errno
import gzip
import io
import lzma
import os
import sys
import tempfile
import zipfile
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pyarrow as pa
import pytest

from arena import local_copy, unpack
from arena.files import open_source
from arena.reader import read_battles
from common.errors import Code
from tests.helpers.battle_files import NAMES, as_csv, cells, save
from tests.helpers.errors import raises

CONTENT = as_csv([cells(i) for i in range(3)]).encode()


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("nowhere.csv", Code.INPUT_MISSING),
        ("memory://nowhere.csv", Code.INPUT_MISSING),
        (".", Code.INPUT_MISSING),
        ("foo://x.csv", Code.INPUT_UNREADABLE),
    ],
)
def test_a_source_that_cannot_be_opened_is_refused(source, code):
    with raises(code):
        read_battles(source, labelled=False)


def test_a_web_address_is_read(tmp_path):
    save(tmp_path, as_csv([cells(i) for i in range(3)]))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert len(read_battles(f"{address}/battles.csv", labelled=True)) == 3
        with raises(Code.INPUT_MISSING):
            read_battles(f"{address}/other.csv", labelled=True)
        server.shutdown()


def test_what_is_copied_is_copied_once_and_gone_in_the_end(tmp_path, monkeypatch):
    content = as_csv([cells(i) for i in range(3)]).encode()
    with fsspec.open("memory://battles.csv.gz", "wb") as file:
        file.write(gzip.compress(content))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_source("memory://battles.csv.gz", NAMES) as stream:
        fsspec.filesystem("memory").rm("battles.csv.gz")
        first, again = list(stream.rows), list(stream.rows)
        # What came, and what it holds.
        assert len(list(tmp_path.iterdir())) == 2
    assert [row.cells["id"] for row in first] == ["0", "1", "2"]
    assert first == again
    assert list(tmp_path.iterdir()) == []


def test_a_file_made_to_fill_the_memory_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "ALWAYS_UNPACKED", 2**21)
    header = as_csv([cells(1)]).encode()
    bomb = save(tmp_path, gzip.compress(header + b"x" * 2**23), "bomb.csv.gz")
    with raises(Code.INPUT_UNPACKS_TOO_LARGE, match="2,097,152 bytes"):
        read_battles(bomb, labelled=True)
    # Members that follow each other are one file, as gunzip reads them.
    lines = as_csv([cells(i) for i in range(3)]).encode().splitlines(keepends=True)
    members = b"".join(map(gzip.compress, lines))
    battles = read_battles(save(tmp_path, members, "x.csv.gz"), labelled=True)
    assert len(battles) == 3


def test_text_that_packs_well_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "ALWAYS_UNPACKED", 1)
    text = as_csv([cells(i, a="the same words " * 20) for i in range(200)])
    packed = gzip.compress(text.encode())
    assert len(text) > 10 * len(packed)
    assert len(read_battles(save(tmp_path, packed, "x.csv.gz"), labelled=True)) == 200


def by_arrow(codec):
    def pack(content):
        out = pa.BufferOutputStream()
        with pa.CompressedOutputStream(out, codec) as packed:
            packed.write(content)
        return out.getvalue().to_pybytes()

    return pack


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


PACKERS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    "zstd": by_arrow("zstd"),
    "lz4": by_arrow("lz4"),
    "zip": lambda content: zipped({"deep/train.csv": content}),
}


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_every_packing_is_read_bounded_and_refused_where_it_is_cut(tmp_path, monkeypatch, pack):
    packed = pack(CONTENT)
    ids = read_battles(save(tmp_path, packed, "votes"), labelled=True)["id"].tolist()
    assert ids == ["0", "1", "2"]
    with raises(Code.INPUT_DAMAGED, match=r"cut\.csv"):
        read_battles(save(tmp_path, packed[:-20], "cut.csv"), labelled=True)
    monkeypatch.setattr(unpack, "ALWAYS_UNPACKED", 2**21)
    bomb = save(tmp_path, pack(CONTENT + b"x" * 2**23), "bomb.csv")
    with raises(Code.INPUT_UNPACKS_TOO_LARGE, match=r"bomb\.csv"):
        read_battles(bomb, labelled=True)


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd", "lz4"])
def test_parts_that_follow_each_other_are_one_file(tmp_path, name):
    lines = CONTENT.splitlines(keepends=True)
    packed = b"".join(map(PACKERS[name], lines))
    assert len(read_battles(save(tmp_path, packed, "x"), labelled=True)) == 3


def test_a_packed_file_may_be_packed_once_more(tmp_path):
    twice = zipped({"train.csv.gz": gzip.compress(CONTENT)})
    assert len(read_battles(save(tmp_path, twice, "x.zip"), labelled=True)) == 3
    with raises(Code.INPUT_FORMAT, match=r"x\.gz"):
        read_battles(save(tmp_path, gzip.compress(twice), "x.gz"), labelled=True)


def test_more_packed_files_are_open_than_a_process_may_open(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = save(tmp_path, gzip.compress(CONTENT))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with ExitStack() as stack:
        streams = [stack.enter_context(open_source(path, NAMES)) for _ in range(20)]
        assert len(list(Path("/proc/self/fd").iterdir())) < before + 5
        assert all(len(list(stream.rows)) == 3 for stream in streams)
    assert len(list(tmp_path.iterdir())) == 1


def test_of_a_zip_the_only_file_of_data_is_read(tmp_path):
    clutter = {
        "__MACOSX/._train.csv": b"\0",
        "data/": b"",
        "data/.DS_Store": b"\0",
        "README.md": "",
    }
    path = save(tmp_path, zipped({**clutter, "data/train.csv": CONTENT}), "x.zip")
    assert len(read_battles(path, labelled=True)) == 3
    with raises(Code.INPUT_MISSING, match=r"README\.md"):
        read_battles(save(tmp_path, zipped(clutter | {"a.png": b""}), "x.zip"), labelled=True)


def test_of_several_files_in_a_zip_one_is_named(tmp_path):
    path = save(tmp_path, zipped({"train.csv": CONTENT, "test.csv": "id\n"}), "x.zip")
    with raises(Code.INPUT_FORMAT, match=rf"train\.csv, test\.csv.*zip://train\.csv::{path}"):
        read_battles(path, labelled=True)
    assert len(read_battles(f"zip://train.csv::{path}", labelled=True)) == 3
    with raises(Code.INPUT_MISSING, match=r"other\.csv"):
        read_battles(f"zip://other.csv::{path}", labelled=True)


@pytest.mark.parametrize(
    ("member", "kind"),
    [
        ("xl/workbook.bin", "xlsb"),
        ("word/document.xml", "Word"),
        ("content.xml", "OpenDocument"),
        ("votes.npy", "NumPy"),
        ("archive/data.pkl", "PyTorch"),
    ],
)
def test_a_zip_of_another_program_is_named_for_what_it_is(tmp_path, member, kind):
    with raises(Code.INPUT_FORMAT, match=kind):
        read_battles(save(tmp_path, zipped({member: "x"}), "x.csv"), labelled=True)


def test_a_workbook_made_to_fill_the_memory_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "ALWAYS_UNPACKED", 2**20)
    bomb = zipped({"xl/workbook.xml": "", "xl/worksheets/sheet1.xml": bytes(2**21)})
    with raises(Code.INPUT_UNPACKS_TOO_LARGE, match="1,048,576"):
        read_battles(save(tmp_path, bomb, "x.xlsx"), labelled=True)


def test_pipes_and_standard_input_can_be_read_several_times(tmp_path, monkeypatch):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    Thread(target=fifo.write_bytes, args=[CONTENT], daemon=True).start()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(CONTENT))))
    for source in (str(fifo), "-"):
        with open_source(source, NAMES) as stream:
            first, again = list(stream.rows), list(stream.rows)
        assert [row.cells["id"] for row in first] == ["0", "1", "2"]
        assert first == again


def test_a_pipe_without_end_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(local_copy, "MOST_PIPED", len(CONTENT) - 1)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CONTENT)))
    with raises(Code.INPUT_UNREADABLE, match=f"{len(CONTENT) - 1:,} bytes"):
        read_battles("-", labelled=True)


REFUSALS = {
    errno.EACCES: (Code.INPUT_UNREADABLE, "permission"),
    errno.EIO: (Code.INPUT_UNREADABLE, "Input/output error"),
    errno.ENOENT: (Code.INPUT_MISSING, "does not exist"),
    errno.ENAMETOOLONG: (Code.INPUT_MISSING, "too long"),
    errno.EISDIR: (Code.INPUT_UNREADABLE, "folder"),
}


@pytest.mark.parametrize(("number", "expected"), REFUSALS.items())
def test_what_the_system_refuses_is_named_for_what_it_is(tmp_path, monkeypatch, number, expected):
    path = save(tmp_path, CONTENT)

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refuse)
    with raises(expected[0], match=expected[1]):
        read_battles(path, labelled=True)


class Full(io.BytesIO):
    """A file on a full disk."""

    name = "no such file"

    def __init__(self, delete):
        super().__init__()

    def write(self, _):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_or_missing_temporary_folder_is_named(tmp_path, monkeypatch):
    path = save(tmp_path, gzip.compress(CONTENT))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(local_copy, "NamedTemporaryFile", Full)
    with raises(Code.SYSTEM_ERROR, match=f"{tmp_path} .*No space left.*TMPDIR"):
        read_battles(path, labelled=True)
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with raises(Code.SYSTEM_ERROR, match="TMPDIR"):
        read_battles(path, labelled=True)
    # Nothing is copied of a file that lies here unpacked.
    assert len(read_battles(save(tmp_path, CONTENT, "plain.csv"), labelled=True)) == 3
