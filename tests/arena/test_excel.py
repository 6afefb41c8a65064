"""Excel workbooks: sheets, cells that were cut, and what happens without openpyxl."""

import sys

import openpyxl

from arena.files import open_source
from arena.reader import read_battles
from common.errors import Code
from tests.helpers.battle_files import NAMES
from tests.helpers.errors import raises


def workbook(path, sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, lines in sheets.items():
        sheet = book.create_sheet(title)
        for line in lines:
            sheet.append(line)
    book.save(path)
    return str(path)


def test_an_excel_workbook_is_read_and_its_other_sheets_are_named(tmp_path, capsys):
    votes = [[], NAMES, [7, "p", "a", "=1+2"], [], [8.5, "q", None, "x" * 32_767]]
    path = workbook(tmp_path / "x.csv", {"Notes": [["Read me"]], "Votes": votes})
    with open_source(path, NAMES) as stream:
        rows = list(stream.rows)
    assert [row.cells["id"] for row in rows] == [7, 8.5]
    assert rows[0].cells["prompt"] == "p"
    assert [row.damage for row in rows] == ["", "response_b was cut by Excel at 32,767 characters"]
    assert capsys.readouterr().err == f"{path}: sheet Votes is read, not: Notes\n"


def test_without_openpyxl_one_line_names_it(tmp_path, monkeypatch):
    path = workbook(tmp_path / "x.xlsx", {"Votes": [NAMES, ["1", "p", "a", "b"]]})
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with raises(Code.READER_MISSING, match="pip install openpyxl"):
        read_battles(path, labelled=False)
