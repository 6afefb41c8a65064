"""Shards are whole or not there, and come back as they were written."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena.errors import UserError
from embeddings import store as module
from embeddings.store import CorruptShardError, Shard, Store, gather, read_shard, settings_hash

SETTINGS = {"model": "toy", "slots": ["layer1.mean"]}


def shard(first=0, n=3):
    """Items ``first``, ``first + 1`` …; every number of an item begins with the item's."""
    items = np.arange(first, first + n)
    keys = np.zeros((n, 32), dtype=np.uint8)
    keys[:, 31] = items
    states = (items[:, None, None] + np.arange(8).reshape(2, 4) / 16).astype(np.float16)
    likelihood = (items[:, None] + np.array([0.25, np.nan])).astype(np.float32)
    return Shard(keys, states, likelihood)


def key(item):
    return bytes([*[0] * 31, item])


@pytest.fixture
def folder(tmp_path):
    """A store of two shards: items 0 to 2 and 3 to 5."""
    store = Store(tmp_path / "store", SETTINGS)
    store.add(shard(0))
    store.add(shard(3))
    return store.folder


def test_round_trip(folder):
    store = Store(folder, SETTINGS)
    assert all(key(item) in store for item in range(6))
    assert key(6) not in store
    for first in (0, 3):
        found = read_shard(folder / shard(first).file_name())
        for name, array in shard(first).tensors.items():
            assert found.tensors[name].dtype == array.dtype
            np.testing.assert_array_equal(found.tensors[name], array)


def test_what_is_added_is_there_at_once(tmp_path):
    store = Store(tmp_path, SETTINGS)
    assert key(1) not in store
    store.add(shard())
    assert key(1) in store


def test_gather_keeps_order_and_repeats(folder):
    keys = [key(item) for item in (5, 0, 5, 2, 0)]
    assert gather(folder, keys, "states")[:, 0, 0].tolist() == [5, 0, 5, 2, 0]
    assert gather(folder, keys, "states").shape == (5, 2, 4)
    assert gather(folder, keys, "states").dtype == np.float16
    found = gather(folder, keys, "likelihood")
    assert found[:, 0].tolist() == [5.25, 0.25, 5.25, 2.25, 0.25]
    assert np.isnan(found[:, 1]).all()
    assert found.dtype == np.float32


def test_gather_says_what_is_missing_and_what_to_do(folder, tmp_path):
    with pytest.raises(UserError, match=r"lacks evidence of 2 answers: run .*extract\.py"):
        gather(folder, [key(1), key(6), key(7), key(6)], "states")
    with pytest.raises(UserError, match=r"lacks evidence of 1 answers: run .*extract\.py"):
        gather(tmp_path / "nowhere", [key(1)], "states")
    path = folder / shard().file_name()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"is corrupt .*: run .*extract\.py"):
        gather(folder, [key(4)], "states")


def test_no_keys_gather_nothing(folder, tmp_path):
    assert gather(folder, [], "states").shape == (0, 2, 4)
    assert gather(tmp_path / "nowhere", [], "states").shape == (0, 0, 0)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def exchange(path):
    """Put in a sound shard of other items."""
    other = path.with_name(shard(3).file_name())
    shutil.copy(other, path)


def foreign(path):
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3)}, path)


def junk(path):
    path.write_bytes(bytes(range(256)))


@pytest.mark.parametrize("damage", [truncate, flip, empty, exchange, foreign, junk])
def test_a_damaged_shard_is_removed_and_said(folder, damage, capsys):
    path = folder / shard().file_name()
    damage(path)
    store = Store(folder, SETTINGS)
    assert not path.exists()
    assert key(0) not in store
    assert key(3) in store
    err = capsys.readouterr().err
    assert str(path) in err
    assert "corrupt" in err
    store.add(shard())
    assert gather(folder, [key(0)], "states")[0, 0, 0] == 0


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"), SETTINGS)
    store.add(shard())
    return store.folder / shard().file_name()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_changed_byte_goes_unnoticed(written, tmp_path_factory, data):
    content = bytearray(written.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / written.name
    path.write_bytes(content)
    with pytest.raises(CorruptShardError):
        read_shard(path)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_cut_goes_unnoticed(written, tmp_path_factory, data):
    content = written.read_bytes()
    path = tmp_path_factory.getbasetemp() / written.name
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CorruptShardError):
        read_shard(path)


def test_what_a_crash_left_is_removed(folder):
    leftover = folder / f".{shard(9).file_name()}.4711.tmp"
    leftover.write_bytes(b"half")
    Store(folder, SETTINGS)
    assert not leftover.exists()
    assert len(list(folder.glob("*.safetensors"))) == 2


def test_a_crash_while_writing_leaves_no_shard(tmp_path, monkeypatch):
    def crash(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    store = Store(tmp_path, SETTINGS)
    monkeypatch.setattr(module, "save_file", crash)
    with pytest.raises(KeyboardInterrupt):
        store.add(shard())
    assert key(0) not in store
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_the_same_items_give_the_same_bytes(folder, tmp_path):
    other = Store(tmp_path / "other", SETTINGS)
    other.add(shard(3))
    other.add(shard(0))
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in other.folder.iterdir())
    assert len(names) == 3
    for name in names:
        assert (folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_the_checksum_is_of_dtypes_and_shapes_too():
    keys, states, likelihood = shard().keys, shard().states, shard().likelihood
    other = [
        Shard(keys, states.view(np.int16), likelihood),
        Shard(keys, states.reshape(3, 4, 2), likelihood),
        Shard(keys.view(np.int8), states, likelihood),
    ]
    assert len({s.checksum() for s in [shard(), *other]}) == 4


def test_settings_are_kept_for_people(folder):
    assert json.loads((folder / "settings.json").read_text()) == SETTINGS


def test_settings_hash_sees_values_and_not_their_order():
    assert settings_hash({"a": 1, "b": [2]}) == settings_hash({"b": [2], "a": 1})
    hashes = {settings_hash(s) for s in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {})}
    assert len(hashes) == 5
    assert {len(h) for h in hashes} == {16}
