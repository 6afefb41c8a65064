"""A file's hash is of all its bytes, and is remembered only for as long as the file stays."""

import hashlib
import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from embeddings.backbone import weight_hashes as hashes
from embeddings.backbone.weight_hashes import content_hash


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and hashes that are remembered from the first byte on."""
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "REMEMBERED", 0)
    forget(monkeypatch)
    return tmp_path / "cache"


def forget(monkeypatch):
    """As another process would see it."""
    monkeypatch.setattr(hashes, "_known", {})


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that were read."""
    found, digest = [], hashlib.file_digest

    def counted(file, kind):
        found.append(Path(file.name).name)
        return digest(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return found


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(1000))
    return file


def test_it_is_read_once_by_all_processes(path, hashed, cache, monkeypatch):
    assert {content_hash(path) for _ in range(2)} == {sha256(bytes(1000)).hexdigest()}
    forget(monkeypatch)
    content_hash(path)
    assert hashed == [path.name]
    other = path.with_name("other.safetensors")
    other.write_bytes(b"x")
    content_hash(other)
    forget(monkeypatch)
    content_hash(path)
    content_hash(other)
    assert hashed == [path.name, other.name]


def test_an_edit_that_keeps_size_and_time_is_seen(path):
    before, times = content_hash(path), path.stat()
    # Files have the time of the clock's last tick.
    time.sleep(0.02)
    with path.open("r+b") as file:
        file.seek(500)
        file.write(b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert content_hash(path) == sha256(path.read_bytes()).hexdigest() != before


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"[" * 100_000, b'{"%s": 3}', b'{"%s": {"sha256": "x"}}']
)
def test_a_damaged_memory_is_none(path, cache, content, hashed):
    cache.mkdir()
    (cache / "hashes.json").write_bytes(content.replace(b"%s", str(path).encode()))
    assert content_hash(path) == sha256(bytes(1000)).hexdigest()
    assert hashed == [path.name]


@pytest.mark.parametrize("place", ["/proc/cache", "~nobody-has-this-name/cache"])
def test_a_cache_that_cannot_be_written_is_done_without(path, monkeypatch, hashed, place):
    monkeypatch.setenv("TIEBREAK_CACHE", place)
    for _ in range(2):
        assert content_hash(path) == sha256(bytes(1000)).hexdigest()
    assert hashed == [path.name]


def test_a_small_file_leaves_nothing(path, cache, monkeypatch):
    monkeypatch.setattr(hashes, "REMEMBERED", 1001)
    content_hash(path)
    assert not cache.exists()
