"""Formats, encodings, broken quotes, and files that are of no use."""

import gzip
import json
import re
import tempfile
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena import local_copy
from arena.files import open_source
from arena.reader import read_battles
from common.errors import Code, UserError
from tests.helpers.battle_files import NAMES, WITH_FILES, as_csv, cells, reasons, save
from tests.helpers.errors import raises


def test_bytes_that_are_not_utf8_set_their_row_aside(tmp_path):
    content = as_csv([cells(i, a="é" if i == 1 else "yes") for i in range(4)])
    content = content.replace("\\u00e9", "é").encode("latin-1")
    battles = read_battles(save(tmp_path, content), labelled=True)
    assert reasons(battles) == {1: "response_a holds bytes that are not UTF-8"}
    assert battles["id"].tolist() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_obeyed(tmp_path, encoding):
    content = as_csv([["1", "Où?", "là", "ici"]], NAMES).encode(encoding)
    battles = read_battles(save(tmp_path, content), labelled=False)
    assert battles.loc[0, ["id", "prompt"]].tolist() == ["1", ["Où?"]]


@pytest.mark.parametrize(
    ("broken", "rest_of_line"),
    [('"[""c""]', "1,0,0"), ('[""c""]"', "1,0,0"), ('"[""c""]",1,0,"0', None), ('"c"d"', "1,0,0")],
)
def test_a_stray_quote_costs_its_own_row_only(tmp_path, broken, rest_of_line):
    lines = as_csv([cells(i) for i in range(50)]).splitlines()
    line = '9,"[""p""]","[""a""]",' + broken
    lines[10] = line if rest_of_line is None else f"{line},{rest_of_line}"
    battles = read_battles(save(tmp_path, "\n".join(lines)), labelled=True)
    assert battles["id"].tolist() == [str(i) for i in range(50)]
    assert list(reasons(battles)) == [9]


def test_an_unclosed_quote_among_cells_of_many_lines(tmp_path):
    rows = [[str(i), "Why?\n\nSay, please", "so,\nso", "no"] for i in range(50)]
    lines = as_csv(rows, NAMES).splitlines()
    # Four lines a row after the header; the answer of row 9 ends without its quote.
    assert lines[1 + 4 * 9 + 3] == 'so",no'
    lines[1 + 4 * 9 + 3] = "so,no"
    battles = read_battles(save(tmp_path, "\n".join(lines)), labelled=False)
    assert battles["id"].tolist() == [str(i) for i in range(50)]
    assert list(reasons(battles)) == [9]


def test_rows_that_would_close_each_others_quotes_stay_apart(tmp_path):
    lines = [",".join(NAMES), "1,p,a,b", '2,p,a,"b', '3,p,a,"b', "4,p,a,b"]
    battles = read_battles(save(tmp_path, "\n".join(lines)), labelled=False)
    assert battles["id"].tolist() == ["1", "2", "3", "4"]
    assert list(reasons(battles)) == [1, 2]


@WITH_FILES
@given(
    st.binary(max_size=300), st.sampled_from(["csv", "jsonl", "parquet", "csv.gz"]), st.booleans()
)
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path, data, extension, labelled):
    header = as_csv([]).encode()
    for start in (b"", header, gzip.compress(header), b"\x1f\x8b", b"PAR1", b"{"):
        path = save(tmp_path, start + data, f"x.{extension}")
        message = "read"
        try:
            read_battles(path, labelled=labelled)
        except UserError as error:
            message = str(error)
        assert len(message.splitlines()) == 1


REFUSED = {
    "blank": (b" \n\n", Code.INPUT_EMPTY),
    "no rows": (as_csv([]), Code.INPUT_EMPTY),
    "no column response_b": ("id,prompt,response_a\n1,p,a\n", Code.COLUMN_MISSING),
    "no column id": (as_csv([["p", "a", "b"]], NAMES[1:]), Code.COLUMN_MISSING),
    "prompt twice": (
        as_csv([["1", "p", "q", "a", "b"]], [*NAMES[:2], *NAMES[1:]]),
        Code.COLUMN_AMBIGUOUS,
    ),
    "no columns": ("hello\nworld\n", Code.INPUT_FORMAT),
    "a JSON list": ('[{"id": 1}]', Code.INPUT_FORMAT),
    "bytes": (bytes(range(256)) * 9, Code.INPUT_ENCODING),
    "latin-1": (as_csv([["1", "é", "è", "ê"]] * 3, NAMES).encode("latin-1"), Code.INPUT_ENCODING),
    "parquet cut short": (b"PAR1" + bytes(99) + b"PAR1", Code.INPUT_DAMAGED),
    "gzip cut short": (
        gzip.compress(as_csv([cells(1)] * 99).encode())[:50],
        Code.INPUT_DAMAGED,
    ),
}


@pytest.mark.parametrize(("content", "code"), REFUSED.values(), ids=REFUSED)
def test_a_file_of_no_use_is_refused(tmp_path, content, code):
    source = save(tmp_path, content)
    with raises(code, match=re.escape(str(source))):
        read_battles(source, labelled=False)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("nowhere.csv", Code.INPUT_MISSING),
        ("memory://nowhere.csv", Code.INPUT_MISSING),
        (".", Code.INPUT_UNREADABLE),
        ("foo://x.csv", Code.INPUT_UNREADABLE),
    ],
)
def test_a_source_that_cannot_be_opened_is_refused(source, code):
    with raises(code):
        read_battles(source, labelled=False)


def test_huge_cells_are_set_aside_fast(tmp_path):
    rows = [cells(0), cells(1, a="x" * 50_000_000), cells(2)]
    path = save(tmp_path, as_csv(rows))
    start = time.monotonic()
    battles = read_battles(path, labelled=True)
    assert time.monotonic() - start < 20
    assert reasons(battles) == {1: "response_a has 50,000,004 characters, more than 2,000,000"}


def test_nul_and_newlines_in_cells_are_text(tmp_path):
    rows = [["1", "a\0b\r\nc", "x\x0by\u2028z", "\x1a"], ["2", "p", "q", "r"]]
    battles = read_battles(save(tmp_path, as_csv(rows, NAMES)), labelled=False)
    assert battles.loc[0, ["prompt", "response_a", "response_b"]].tolist() == [
        [c] for c in rows[0][1:]
    ]
    assert battles["id"].tolist() == ["1", "2"]


def records(n=5):
    return [
        {"id": i, "prompt": [f"p{i}", None], "response_a": ["a", "b"], "response_b": ["c", "d"]}
        | {"winner_model_a": 0, "winner_model_b": int(i != 3), "winner_tie": 0}
        for i in range(n)
    ]


def test_formats_agree(tmp_path):
    rows = records()
    lists = ("prompt", "response_a", "response_b")
    text = as_csv(
        [[json.dumps(r[n]) if n in lists else r[n] for n in r] for r in rows], list(rows[0])
    )
    jsonl = "".join(json.dumps(row) + "\n\n" for row in rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    with fsspec.open("memory://folder/x.csv", "wb") as file:
        file.write(text.encode())
    sources = [
        save(tmp_path, text),
        save(tmp_path, gzip.compress(text.encode()), "x.csv.gz"),
        save(tmp_path, jsonl, "x.jsonl"),
        save(tmp_path, gzip.compress(jsonl.encode()), "named_without_extension"),
        str(tmp_path / "x.parquet"),
        "memory://folder/x.csv",
    ]
    first, *others = (read_battles(source, labelled=True) for source in sources)
    assert reasons(first) == {3: "no winner in winner_model_a, winner_model_b, winner_tie"}
    assert first.loc[4, "id"] == "4"
    for other in others:
        pd.testing.assert_frame_equal(first, other)


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl", "x.csv"])
def test_limit_keeps_the_first_rows(tmp_path, name):
    frame = pd.DataFrame(records(9)).astype(dict.fromkeys(NAMES[1:], str))
    writers = {
        "x.parquet": frame.to_parquet,
        "x.jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
        "x.csv": lambda path: frame.to_csv(path, index=False),
    }
    writers[name](tmp_path / name)
    battles = read_battles(str(tmp_path / name), labelled=True, limit=3)
    assert battles["id"].tolist() == ["0", "1", "2"]


def test_damaged_lines_of_jsonl_keep_their_place(tmp_path):
    sound = '{"id": "%s", "prompt": "p", "response_a": "a", "response_b": "b"}'
    lines = [sound % "u", "oops", "[1]", '{"id": "v", "prompt": "p"}', sound % "w"]
    battles = read_battles(save(tmp_path, "\n".join(lines), "x.jsonl"), labelled=False)
    assert battles["id"].tolist() == ["u", "1", "2", "v", "w"]
    assert reasons(battles) == {
        1: "the line is not JSON",
        2: "the line is not a JSON object",
        3: "response_a is missing",
    }


def test_strings_of_parquet_that_are_not_utf8(tmp_path):
    rows = {name: pa.array([b"x%d" % i for i in range(3)]) for name in NAMES}
    rows["prompt"] = pa.array([b"p", b"\xff", b"q"])
    text = {
        name: pa.StringArray.from_buffers(3, *column.buffers()[1:]) for name, column in rows.items()
    }
    pq.write_table(pa.table(text), tmp_path / "x.parquet")
    battles = read_battles(str(tmp_path / "x.parquet"), labelled=False)
    assert battles["id"].tolist() == ["x0", "x1", "x2"]
    assert reasons(battles) == {1: "prompt holds bytes that are not UTF-8"}


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
    monkeypatch.setattr(local_copy, "ALWAYS_UNPACKED", 2**21)
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
    monkeypatch.setattr(local_copy, "ALWAYS_UNPACKED", 1)
    text = as_csv([cells(i, a="the same words " * 20) for i in range(200)])
    packed = gzip.compress(text.encode())
    assert len(text) > 10 * len(packed)
    assert len(read_battles(save(tmp_path, packed, "x.csv.gz"), labelled=True)) == 200
