"""Excel workbooks: sheets, cells that were cut, and what happens without openpyxl."""

import io
import sys
import zipfile
from pathlib import Path

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


def change(path, old, new):
    """Change the XML of a workbook."""
    with zipfile.ZipFile(io.BytesIO(Path(path).read_bytes())) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    with zipfile.ZipFile(path, "w") as book:
        for name, content in parts.items():
            book.writestr(name, content.replace(old, new))


def test_an_excel_workbook_is_read_and_its_other_sheets_are_named(tmp_path, capsys):
    votes = [[], NAMES, [7, "p", "a", "=1+2"], [], [8.5, "q", None, "x" * 32_767]]
    path = workbook(tmp_path / "x.csv", {"Notes": [["Read me"]], "Votes": votes})
    with open_source(path, NAMES) as stream:
        rows = list(stream.rows)
    assert [row.cells["id"] for row in rows] == [7, 8.5]
    assert rows[0].cells["prompt"] == "p"
    assert [row.damage for row in rows] == ["", "response_b was cut by Excel at 32,767 characters"]
    assert capsys.readouterr().err == f"{path}: sheet Votes is read, not: Notes\n"


def test_a_formula_is_its_value_and_text_that_looks_like_one_stays_text(tmp_path):
    path = workbook(tmp_path / "x.xlsx", {"Votes": [NAMES, [1, "=p", "=A2", "b"], ["", "", "=a"]]})
    with open_source(path, NAMES) as stream:
        cells = [list(row.cells.values()) for row in stream.rows]
    assert cells == [[1, "=p", "=A2", "b"], [None, None, "=a", None]]
    # Excel keeps the value that it has computed beside the formula.
    change(path, b"<f>A2</f><v />", b"<f>A2</f><v>7</v>")
    with open_source(path, NAMES) as stream:
        assert next(iter(stream.rows)).cells["response_a"] == 7


def test_a_row_of_a_damaged_number_does_not_stand_for_a_billion_rows(tmp_path):
    path = workbook(tmp_path / "x.xlsx", {"Votes": [NAMES, ["1", "p", "a", "b"]]})
    change(path, b'<row r="2">', b'<row r="999999999">')
    with raises(Code.INPUT_DAMAGED, match="1,048,576"):
        read_battles(path, labelled=False)


def test_without_openpyxl_one_line_names_it(tmp_path, monkeypatch):
    path = workbook(tmp_path / "x.xlsx", {"Votes": [NAMES, ["1", "p", "a", "b"]]})
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with raises(Code.READER_MISSING, match="pip install openpyxl"):
        read_battles(path, labelled=False)
