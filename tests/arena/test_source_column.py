"""Sources of battles by a CSV of their ids."""

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
    path = save(tmp_path, "id,site\n2,web\n1,app\n4,web\n")
    assert read_sources(path, pd.Series(["1", "2", "3"])).tolist() == ["app", "web", ""]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("id\n1\n", Code.COLUMN_MISSING),
        ("id,site,more\n1,web,x\n", Code.COLUMN_MISSING),
        ("name,site\n1,web\n", Code.COLUMN_MISSING),
        ("id,site\n1,web\n1,app\n", Code.ID_REPEATED),
        ("", Code.INPUT_UNREADABLE),
    ],
)
def test_other_files_are_refused(tmp_path, content, code):
    with raises(code):
        read_sources(save(tmp_path, content), pd.Series(["1"]))
