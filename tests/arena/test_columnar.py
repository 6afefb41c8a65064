"""Parquet, Arrow files and Arrow streams."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arena.reader import read_battles
from tests.helpers.battle_files import NAMES, check_same_as_lines, reasons, records

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
