"""Training files that cannot be read, or rows of them, as extract.py meets them."""

import csv
import json

import pandas as pd
import pytest
from battle_files import lmsys
from tiny import save_tiny_model

from pipelines import extract


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


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
    elif name == "duplicate ids":
        rows[2][0] = rows[1][0]
    elif name == "50 MB cell":
        rows[2][2] = json.dumps(["x" * 50_000_000])
    with path.open("w", newline="") as f:
        csv.writer(f).writerows(rows)


@pytest.mark.parametrize("name", ["junk", "empty", "latin-1", "missing column", "no rows"])
def test_a_file_that_cannot_be_read_is_one_line(name, tmp_path, model_folder, capsys):
    path = tmp_path / "train.csv"
    damage(name, path)
    argv = ["--train", str(path), "--run", str(tmp_path / "run"), "--backbone", str(model_folder)]
    assert extract.command(argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert str(path) in err


@pytest.mark.parametrize(
    "name", ["two winners", "no winner", "bad JSON", "duplicate ids", "50 MB cell"]
)
def test_a_damaged_row_is_set_aside_with_its_reason(name, tmp_path, model_folder):
    path, run = tmp_path / "train.csv", tmp_path / "run"
    damage(name, path)
    argv = ["--train", str(path), "--run", str(run), "--backbone", str(model_folder)]
    assert extract.command(argv) == 0
    rejected = pd.read_csv(run / "battles" / "rejected.csv")
    assert rejected["row"].tolist() == [1]
    assert rejected["reason"].str.len().tolist()[0] > 5
