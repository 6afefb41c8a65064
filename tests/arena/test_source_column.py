"""Sources of battles by a file of their ids."""

import fsspec
import pandas as pd
import pytest

from arena.source_column import read_sources
from common.errors import Code
from tests.helpers.errors import raises


def save(tmp_path, content):
    path = tmp_path / "sources.csv"
    path.write_text(content)
    return str(path)


def test_sources_come_in_the_order_of_the_ids_and_a_battle_may_be_missing(tmp_path):
    path = save(tmp_path, "ID,site\n2,web\n1,app\n4,web\n")
    assert read_sources(path, ["1", "2", "3"]).tolist() == ["app", "web", ""]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_any_format_of_battles_is_read(suffix, tmp_path):
    table = pd.DataFrame({"question_id": [2.0, 1.0], "site": ["web", "app"]})
    path = tmp_path / f"sources.{suffix}"
    if suffix == "parquet":
        table.to_parquet(path)
    else:
        table.to_json(path, orient="records", lines=True)
    assert read_sources(str(path), ["1", "2"]).tolist() == ["app", "web"]


def test_one_of_several_columns_may_be_named(tmp_path):
    path = save(tmp_path, "id,site,year\n1,web,2024\n2,app,2025\n")
    assert read_sources(f"{path}:site", ["1", "2"]).tolist() == ["web", "app"]
    assert read_sources(f"{path}:year", ["1", "2"]).tolist() == ["2024", "2025"]
    with raises(Code.COLUMN_MISSING, match="id, site, year"):
        read_sources(path, ["1"])
    with raises(Code.COLUMN_MISSING, match="city.* id, site, year"):
        read_sources(f"{path}:city", ["1"])


def test_a_colon_in_the_name_of_a_file_is_part_of_it(tmp_path):
    path = tmp_path / "by:site"
    path.write_text("id,site\n1,web\n")
    assert read_sources(str(path), ["1"]).tolist() == ["web"]


def test_a_url_may_have_a_column_or_none():
    fsspec.filesystem("memory").pipe("/one.csv", b"id,site\n1,web\n")
    fsspec.filesystem("memory").pipe("/two.csv", b"id,site,year\n1,web,2024\n")
    assert read_sources("memory://one.csv", ["1"]).tolist() == ["web"]
    assert read_sources("memory://two.csv:year", ["1"]).tolist() == ["2024"]


def test_an_id_may_be_repeated_with_the_same_source(tmp_path):
    assert read_sources(save(tmp_path, "id,site\n1,web\n1,web\n"), ["1"]).tolist() == ["web"]
    with raises(Code.ID_REPEATED, match=r"row 3 \(id 1\)"):
        read_sources(save(tmp_path, "id,site\n1,web\n1,web\n1,app\n"), ["1"])


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("id\n1\n", Code.INPUT_FORMAT),
        ("id,site,more\n1,web,x\n", Code.COLUMN_MISSING),
        ("name,site\n1,web\n", Code.COLUMN_MISSING),
        ("id,site\n,web\n", Code.ID_INVALID),
        ("", Code.INPUT_EMPTY),
    ],
)
def test_other_files_are_refused(tmp_path, content, code):
    with raises(code):
        read_sources(save(tmp_path, content), ["1"])
