"""Damaged shards are noticed by whoever reads or writes them."""

import shutil

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from common.errors import Code
from embeddings.cache import shards as module
from embeddings.cache.shards import ShardWriter, check, ragged
from embeddings.cache.tensor_files import DamagedError
from tests.helpers.errors import raises
from tests.helpers.shards import SETTINGS, gather, items, key, long, shard_of, there


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip(path, place=-100):
    """Change a bit; the keys are the last 96 bytes."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def flip_key(path):
    flip(path, -1)


def empty(path):
    path.write_bytes(b"")


def exchange(path):
    """Put in a sound shard of other items."""
    shutil.copy(shard_of(path.parent, 3), path)


def foreign(path):
    save_file({"weight": torch.zeros(3)}, path)


def junk(path):
    path.write_bytes(bytes(range(256)))


DAMAGES = [truncate, flip, flip_key, empty, exchange, foreign, junk]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_removed_and_said(folder, damage, capsys):
    path = shard_of(folder, 0)
    damage(path)
    store = ShardWriter(folder, SETTINGS)
    assert not path.exists()
    assert there(store, [0, 3]) == [False, True]
    err = capsys.readouterr().err
    assert str(path) in err
    assert err.count("\n") == 1
    store.add(*items())
    assert gather(folder, [0], "states")[0, 0, 0] == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_who_reads_is_told_of_a_damaged_shard_and_removes_nothing(folder, damage):
    path = shard_of(folder, 0)
    damage(path)
    with raises(Code.RUN_FILE_DAMAGED, match=path.name):
        gather(folder, [0], "states")
    assert path.exists()


def test_a_shard_is_hashed_once_in_a_process(folder, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "_checked", set())
    read = module.read_tensors
    monkeypatch.setattr(module, "read_tensors", lambda path: calls.append(path) or read(path))
    # Who reads a few items does not wait for all shards.
    gather(folder, [0], "states")
    assert len(calls) == 1
    ShardWriter(folder)
    gather(folder, range(6), "states")
    assert len(calls) == 2
    flip(shard_of(folder, 0))
    ShardWriter(folder)
    assert len(calls) == 3


@pytest.fixture(scope="module", params=["fixed", "ragged"])
def written(request, tmp_path_factory):
    store = ShardWriter(tmp_path_factory.mktemp("store"))
    if request.param == "fixed":
        store.add(*items())
    else:
        store.add([key(1), key(2)], ragged([long(1), long(2)]))
    (path,) = store.folder.glob("*.safetensors")
    return path


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_changed_byte_goes_unnoticed(written, tmp_path_factory, data):
    content = bytearray(written.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    # The header is JSON filled up with spaces; with a tab for one it says the same.
    begin = 8 + int.from_bytes(content[:8], "little")
    assume(place >= begin or content[place] not in b"\t\n\r")
    path = tmp_path_factory.getbasetemp() / written.name
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        check(path)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_cut_goes_unnoticed(written, tmp_path_factory, data):
    content = written.read_bytes()
    path = tmp_path_factory.getbasetemp() / written.name
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DamagedError):
        check(path)
