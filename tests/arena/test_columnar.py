"""Parquet, Arrow files and Arrow streams."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arena.reader import read_battles
from common.errors import Code
from tests.helpers.battle_files import NAMES, check_same_as_lines, reasons, records
from tests.helpers.errors import raises

ROWS = records(3)


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


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_arrow_files_and_streams_are_read(tmp_path, compression):
    table = pa.Table.from_pylist(ROWS)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    for name, writer in (("x.feather", pa.ipc.new_file), ("x.arrow", pa.ipc.new_stream)):
        with writer(tmp_path / name, table.schema, options=options) as file:
            file.write_table(table, max_chunksize=2)
        check_same_as_lines(tmp_path, (tmp_path / name).read_bytes(), "battles", ROWS)


def test_rows_of_nothing_have_an_end(tmp_path):
    batch = pa.record_batch({name: pa.nulls(2**22) for name in NAMES})
    with pa.ipc.new_stream(tmp_path / "x.arrow", batch.schema) as file:
        file.write(batch)
    with raises(Code.INPUT_DAMAGED, match="1,048,576 rows"):
        read_battles(str(tmp_path / "x.arrow"), labelled=False)


@pytest.mark.parametrize("writer", [pq.ParquetWriter, pa.ipc.new_file, pa.ipc.new_stream])
def test_a_table_that_is_cut_short_is_refused(tmp_path, writer):
    table, path = pa.Table.from_pylist(records(300)), tmp_path / "x"
    with writer(path, table.schema) as file:
        file.write_table(table)
    path.write_bytes(path.read_bytes()[:-500])
    with raises(Code.INPUT_DAMAGED, match=str(path)):
        read_battles(str(path), labelled=True)


def test_strings_that_are_not_marked_as_text_are_text(tmp_path):
    texts = {name: [b"so", "\u00e4".encode(), b"\xff"] for name in NAMES}
    table = pa.table(texts | {"winner": [b"a", b"b", b"a"]})
    pq.write_table(table, tmp_path / "x.parquet")
    battles = read_battles(str(tmp_path / "x.parquet"), labelled=True)
    assert battles["prompt"].tolist() == [["so"], ["\u00e4"], []]
    assert battles["label"].tolist() == [0, 1, -1]
