"""Formats, encodings, broken quotes, and files that are of no use."""

import csv
import gzip
import io
import json
import pickle
import re
import time

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena import columnar
from arena.battle_rows import ReadOptions
from arena.files import open_source
from arena.reader import read_battles
from arena.unpack import PACKINGS
from common.errors import Code, UserError
from tests.helpers.battle_files import (
    NAMES,
    VOTES,
    WITH_FILES,
    as_csv,
    cells,
    reasons,
    records,
    save,
)
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
    marks = [marks[0] for _, marks, _ in PACKINGS]
    marks += [mark for mark, _ in columnar.MARKS] + [b"PK\x03\x04", b"{", b"[", b"\xff\xfe"]
    for start in (b"", header, gzip.compress(header), *marks):
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
    battles = read_battles(str(tmp_path / name), labelled=True, options=ReadOptions(limit=3))
    assert battles["id"].tolist() == ["0", "1", "2"]


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
def test_separators_and_encodings_are_told_by_the_content(tmp_path, separator, encoding):
    out = io.StringIO()
    rows = [NAMES, ["1", "a, b; c", "d\te | f", 'g "h"'], ["2", "p\nq", "ä", ""]]
    csv.writer(out, delimiter=separator).writerows(rows)
    path = save(tmp_path, out.getvalue().encode(encoding), "x.csv")
    with open_source(path, NAMES) as stream:
        assert [list(row.cells.values()) for row in stream.rows] == rows[1:]


def test_excels_line_that_names_the_separator_is_no_header(tmp_path):
    path = save(tmp_path, "sep=;\r\nid;prompt;response_a;response_b\r\n1;p;a;b\r\n")
    assert read_battles(path, labelled=False)["id"].tolist() == ["1"]


def test_stray_quotes_are_found_under_other_separators(tmp_path):
    lines = ["\t".join(NAMES), "1\tp\ta\tb", '2\tp\ta\t"b', "3\tp\ta\tb"]
    battles = read_battles(save(tmp_path, "\n".join(lines)), labelled=False)
    assert battles["id"].tolist() == ["1", "2", "3"]
    assert list(reasons(battles)) == [1]


def test_columns_are_matched_whatever_their_case_and_blanks(tmp_path):
    text = "ID,Prompt,Response A,response-b,Winner_Model_A,WINNER model b,winner.tie,Note\n"
    path = save(tmp_path, text + "1,p,a,b,1,0,0,x\n")
    with open_source(path, [*NAMES, *VOTES]) as stream:
        assert stream.columns == [*NAMES, *VOTES, "Note"]
        assert list(next(iter(stream.rows)).cells) == [*NAMES, *VOTES]
    rows = [{"Id": 1, "PROMPT": "p", "Response_A": "a", "response b": "b"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    for other in (str(tmp_path / "x.parquet"), save(tmp_path, json.dumps(rows[0]), "x.jsonl")):
        assert read_battles(other, labelled=False).loc[0, "response_b"] == ["b"]


def test_two_columns_of_one_name_are_refused_unless_one_is_spelled_exactly(tmp_path):
    for header, fits in (("Prompt,PROMPT", False), ("Prompt,prompt", True)):
        path = save(tmp_path, f"id,{header},response_a,response_b\n1,p,q,a,b\n")
        if fits:
            assert read_battles(path, labelled=False).loc[0, "prompt"] == ["q"]
        else:
            with raises(Code.COLUMN_AMBIGUOUS, match="'Prompt', 'PROMPT'"):
                read_battles(path, labelled=False)


OTHER_KINDS = {
    "a PDF": b"%PDF-1.7\n%",
    "an SQLite database": b"SQLite format 3\0" + bytes(80),
    "a NumPy array": b"\x93NUMPY\x01\0v\0{'descr': '<f8'}",
    "a Python pickle": pickle.dumps({"id": [1, 2]}),
    "an old Excel file": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500),
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "a web page": b"\n<!DOCTYPE html>\n<html><title>Sign in, please</title></html>",
    "XML": b'<?xml version="1.0"?><rows/>',
    "a 7z archive": b"7z\xbc\xaf\x27\x1c\0\4",
    "a tar archive": bytes(257) + b"ustar\0" + bytes(250),
    "not UTF-8 text": "id;Größe;prompt\n1;ä;ü\n2;ö;ß\n".encode("latin-1"),
    "neither text nor a file of a known kind": bytes(range(1, 256)),
}


@pytest.mark.parametrize(("kind", "content"), OTHER_KINDS.items(), ids=OTHER_KINDS)
def test_what_cannot_be_read_is_named_for_what_it_is(tmp_path, kind, content):
    path = save(tmp_path, content, "votes.csv")
    with pytest.raises(UserError, match=rf"votes\.csv is {kind}"):
        read_battles(path, labelled=True)
    if kind not in ("not UTF-8 text", "neither text nor a file of a known kind"):
        with raises(Code.INPUT_FORMAT, match=rf"is {kind}"):
            read_battles(save(tmp_path, gzip.compress(content), "votes.csv.gz"), labelled=True)
