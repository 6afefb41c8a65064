"""Several files, globs, folders of shards and saved data sets as one list of files."""

import json

import fsspec
import pytest

from arena.sources import expand
from common.errors import Code
from tests.helpers.errors import raises


@pytest.fixture
def folder(tmp_path):
    """Make a folder of files, each of which holds its text."""

    def make(*names, **texts):
        for name in (*names, *texts):
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts.get(name, "x"))
        return str(tmp_path / "data")

    return make


def names(files, folder):
    assert all(file.startswith(f"{folder}/") for file in files)
    return [file.removeprefix(f"{folder}/") for file in files]


def test_files_and_urls_stay_as_they_are_and_in_their_order():
    sources = ["b.csv", "none/a.csv", "-", "/dev/stdin", "https://x.org/a.csv?b=*", "zip://a::b*"]
    assert expand(sources) == sources


def test_a_file_that_is_named_twice_is_read_once(folder, capsys):
    data = folder("a.csv", "b.csv")
    assert names(expand([f"{data}/b.csv", f"{data}/*.csv"]), data) == ["b.csv", "a.csv"]
    assert capsys.readouterr().err == f"named twice, read once: {data}/b.csv\n"


def test_a_glob_is_sorted_as_people_count(folder, monkeypatch):
    data = folder("p-10.csv", "p-2.csv", "p-1.csv", "q.csv", "p-0/x.csv", ".p-3.csv")
    assert names(expand([f"{data}/p-*"]), data) == ["p-1.csv", "p-2.csv", "p-10.csv"]
    monkeypatch.chdir(data)
    assert expand(["p-?.csv", "**/x.csv"]) == ["p-1.csv", "p-2.csv", "p-0/x.csv"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(folder):
    data = folder("a[1].csv", "a1.csv")
    assert expand([f"{data}/a[1].csv"]) == [f"{data}/a[1].csv"]


def test_a_folder_is_its_shards_and_what_is_not_read_is_named(folder, capsys):
    data = folder(
        *("train-10.parquet", "train-9.parquet", "README.md", ".gitattributes", "LICENSE"),
        *("dataset_info.json", "state.json", "plot.png", "notes.txt", "old/x.parquet"),
        **{"state.json": "{}"},
    )
    for source in (data, f"{data}/"):
        assert names(expand([source]), data) == ["train-9.parquet", "train-10.parquet"]
        assert capsys.readouterr().err == f"{data}: not read: notes.txt, old, plot.png\n"


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "jsonl", "json", "ndjson.zst", "arrow"])
def test_shards_of_every_format_are_known(folder, ending):
    data = folder(f"a.{ending}", f"b.{ending}")
    assert names(expand([data]), data) == [f"a.{ending}", f"b.{ending}"]


def test_a_saved_data_set_is_read_in_its_own_order(folder):
    files = ["data-b.arrow", "data-a.arrow"]
    state = json.dumps({"_data_files": [{"filename": name} for name in files]})
    data = folder(*files, "cache-1.arrow", **{"state.json": state, "dataset_info.json": "{}"})
    assert names(expand([data]), data) == files


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("[]", Code.INPUT_DAMAGED),
        ("{", Code.INPUT_DAMAGED),
        ('{"_data_files": [1]}', Code.INPUT_DAMAGED),
        ('{"_data_files": [{"filename": "../a.arrow"}]}', Code.INPUT_MISSING),
    ],
)
def test_a_damaged_saved_data_set_is_refused(folder, state, code):
    data = folder("a.arrow", **{"state.json": state})
    with raises(code, match=data):
        expand([data])


REFUSED = {
    "splits that were saved": (
        ["dataset_dict.json", "train/data-0.arrow", "test/data-0.arrow"],
        Code.INPUT_FORMAT,
        "test, train",
    ),
    "splits by name": (["train-0.parquet", "test-0.parquet"], Code.INPUT_FORMAT, "test, train"),
    "formats": (["a.csv", "b.parquet"], Code.INPUT_FORMAT, "csv, parquet"),
    "packed and unpacked": (["a.csv", "a.csv.gz", "b.csv"], Code.INPUT_FORMAT, r"a\.csv packed"),
    "nothing": (["README.md", "x.png"], Code.INPUT_MISSING, r"x\.png"),
    "only folders": (["a/x.csv", "b/x.csv"], Code.INPUT_MISSING, "a, b"),
}


@pytest.mark.parametrize(("files", "code", "named"), REFUSED.values(), ids=REFUSED)
def test_a_folder_that_is_no_single_table_is_refused(folder, files, code, named):
    with raises(code, match=named):
        expand([folder(*files)])


def test_a_glob_that_matches_nothing_is_refused(folder):
    pattern = f"{folder('a.csv')}/*.parquet"
    with raises(Code.INPUT_MISSING, match=r"\*\.parquet"):
        expand([pattern])


def test_remote_folders_and_globs_are_expanded():
    for name in ("part-10.csv", "part-2.csv", "notes.md"):
        with fsspec.open(f"memory://sources/{name}", "wb") as file:
            file.write(b"x")
    urls = [f"memory:///sources/part-{i}.csv" for i in (2, 10)]
    assert expand(["memory://sources/*.csv"]) == urls
    assert expand(["memory:///sources"]) == urls
    with raises(Code.INPUT_UNREADABLE, match="foo"):
        expand(["foo://x/*"])
