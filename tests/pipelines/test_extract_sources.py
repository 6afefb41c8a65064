"""extract.py on several files, folders, globs, pipes and the standard input."""

import io
import json
import os
import sys
from threading import Thread

import pandas as pd
import pytest

from common.errors import Code
from pipelines import extract
from tests.helpers.battle_files import lmsys
from tests.helpers.errors import error_line


@pytest.fixture
def shards(tmp_path):
    """Votes as one file, and as a folder of three files of one kind."""
    votes = pd.read_csv(lmsys(tmp_path / "train.csv", 30), dtype=str)
    folder = tmp_path / "shards"
    folder.mkdir()
    for i in range(3):
        part = votes[10 * i : 10 * (i + 1)]
        part.to_csv(folder / f"part-{9 + i}.csv.gz", index=False)
    return folder


@pytest.fixture
def extracted(tmp_path, model_folder):
    """Extract files as training battles; the battles, and what run.json says of them."""

    def extract_files(*files):
        run = tmp_path / "run"
        argv = ["--run", str(run), "--backbone", str(model_folder), "--train", *map(str, files)]
        assert extract.command(argv) == 0
        inputs = json.loads((run / "run.json").read_text())["inputs"]["train"]
        return pd.read_parquet(run / "battles" / "train.parquet"), inputs

    return extract_files


def test_shards_are_the_file_that_they_are_made_of(tmp_path, shards, extracted):
    whole, inputs = extracted(tmp_path / "train.csv")
    files = sorted(shards.iterdir(), key=lambda path: (len(path.name), path.name))
    for named in ([shards], [f"{shards}/part-*"], files, [files[0], f"{shards}/part-1*"]):
        battles, of_shards = extracted(*named)
        pd.testing.assert_frame_equal(battles, whole)
        assert of_shards == inputs | {"file": " ".join(map(str, named))}


def test_pipes_are_files(tmp_path, extracted, monkeypatch):
    path = lmsys(tmp_path / "train.csv", 12)
    whole, inputs = extracted(path)
    content = path.read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    Thread(target=pipe.write_bytes, args=[content], daemon=True).start()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    for source in (pipe, "-"):
        battles, of_pipe = extracted(source)
        pd.testing.assert_frame_equal(battles, whole)
        assert of_pipe == inputs | {"file": str(source)}


def test_only_one_of_the_files_is_the_standard_input(capsys):
    assert extract.command(["--train", "-", "--test", "/dev/stdin"]) == 2
    assert "standard input" in error_line(capsys, Code.OPTIONS_CONFLICT)


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ("data/votes.csv.gz", "votes"),
        ("data/shards/", "shards"),
        ("data/train-*.parquet", "train"),
        ("data/*.csv", "data"),
        ("https://x.org/votes.csv?raw=1", "votes"),
        ("zip://train.csv::votes.zip", "train"),
        ("-", "stdin"),
        ("/dev/fd/63", "stdin"),
        (".", "unnamed"),
    ],
)
def test_a_run_is_named_after_the_first_file(first, name):
    class Arguments:
        train, test, run = [first, "other.csv"], None, None

    assert extract.run_of(Arguments, extract.sources(Arguments)).folder.name == name
