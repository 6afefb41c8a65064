"""Files that are either whole or not there."""

import pytest

from common.files import atomic, read_json, write_json


def test_success_replaces_the_content(tmp_path):
    path = tmp_path / "new folder" / "x.txt"
    for text in ("old", "new"):
        with atomic(path) as temporary:
            temporary.write_text(text)
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]


def test_an_exception_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail():
        with atomic(path) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_the_old_content_stands_until_the_end(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_json_comes_back_and_nan_is_refused(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"ö": [1, 0.5, None]})
    assert read_json(path) == {"ö": [1, 0.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    assert read_json(path) == {"ö": [1, 0.5, None]}
