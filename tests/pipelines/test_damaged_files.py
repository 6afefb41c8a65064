"""Damaged files, as commands meet them: of battles, and those of a run."""

import csv
import json
import shutil

import pandas as pd
import pytest

from arena.ingest import ingest_file, write_rejected
from arena.reader import open_battles
from common.errors import Code
from common.run_dir import RunDir
from pipelines import extract, report
from tests.helpers.battle_files import as_csv, cells, lmsys, save
from tests.helpers.errors import error_line


def good(path):
    lmsys(path, 6)
    with path.open(newline="") as f:
        return list(csv.reader(f))


def damage(name, path):
    """Write one of the damaged training files."""
    rows = good(path)
    if name == "junk":
        path.write_bytes(bytes(range(256)) * 40)
        return
    if name == "empty":
        path.write_bytes(b"")
        return
    if name == "latin-1":
        rows[1:] = [
            [*r[:2], json.dumps(["déjà vu à Paris"], ensure_ascii=False), *r[3:]] for r in rows[1:]
        ]
        path.write_text(
            "\n".join(",".join(f'"{c.replace(chr(34), chr(34) * 2)}"' for c in r) for r in rows),
            encoding="latin-1",
        )
        return
    if name == "missing column":
        rows = [r[:2] + r[3:] for r in rows]
    elif name == "no rows":
        rows = rows[:1]
    elif name == "two winners":
        rows[2][4:] = ["1", "1", "0"]
    elif name == "no winner":
        rows[2][4:] = ["0", "0", "0"]
    elif name == "bad JSON":
        rows[2][2] = '["a'
    elif name == "50 MB cell":
        rows[2][2] = json.dumps(["x" * 50_000_000])
    with path.open("w", newline="") as f:
        csv.writer(f).writerows(rows)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("junk", Code.INPUT_ENCODING),
        ("empty", Code.INPUT_EMPTY),
        ("latin-1", Code.INPUT_ENCODING),
        ("missing column", Code.COLUMN_MISSING),
        ("no rows", Code.INPUT_EMPTY),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(name, code, tmp_path, model_folder, capsys):
    path = tmp_path / "train.csv"
    damage(name, path)
    argv = ["--train", str(path), "--run", str(tmp_path / "run"), "--backbone", str(model_folder)]
    assert extract.command(argv) == 2
    assert str(path) in error_line(capsys, code)


@pytest.mark.parametrize("name", ["two winners", "no winner", "bad JSON", "50 MB cell"])
def test_a_damaged_row_is_set_aside_with_its_reason(name, tmp_path, model_folder):
    path, run = tmp_path / "train.csv", tmp_path / "run"
    damage(name, path)
    argv = ["--train", str(path), "--run", str(run), "--backbone", str(model_folder)]
    assert extract.command(argv) == 0
    rejected = pd.read_csv(run / "battles" / "rejected.csv")
    assert rejected["row"].tolist() == [1]
    assert rejected["reason"].str.len().tolist()[0] > 5


@pytest.mark.parametrize(
    ("name", "made_by"),
    [
        ("metrics.json", "train_meta.py"),
        ("evaluation.json", "evaluate.py"),
        ("comparison.json", "compare.py"),
        ("reasons.parquet", "train_meta.py"),
        ("predictions.parquet", "train_meta.py"),
    ],
)
@pytest.mark.parametrize("content", [b"", b'{"rows": 6', b"[1]", b"PAR1 \xff" * 99])
def test_a_damaged_file_behind_the_report_is_named(
    name, made_by, content, trained, tmp_path, capsys
):
    run = tmp_path / "run"
    copied = shutil.ignore_patterns("hidden", "model")
    shutil.copytree(trained, run, ignore=copied)
    (run / name).write_bytes(content)
    assert report.command(["--run", str(run)]) == 2
    line = error_line(capsys, Code.RUN_FILE_DAMAGED)
    assert str(run / name) in line
    assert made_by in line


@pytest.mark.parametrize(
    "content", [b"", b"a,b\n1,2\n", "split,row,id,reason\n".encode("utf-16"), b'split,"\n']
)
def test_a_damaged_list_of_rejected_rows_is_made_again(tmp_path, content, capsys):
    run = RunDir(tmp_path)
    source = save(tmp_path, as_csv([cells(0), cells(1), [*cells(2)[:3], "["], cells(3)]))
    found = {}
    for split in ("train", "test"):
        with open_battles(source, labelled=True) as file:
            found[split] = ingest_file(file, run.battles(split))
    write_rejected(run, found)
    sound = run.rejected.read_bytes()
    assert sound.count(b"\n") == 3
    run.rejected.write_bytes(content)
    write_rejected(run, {"test": found["test"]})
    assert run.rejected.read_bytes() == sound
    assert "rejected.csv is damaged" in capsys.readouterr().err
    write_rejected(run, {"test": found["test"]})
    assert run.rejected.read_bytes() == sound
    assert capsys.readouterr().err == ""
