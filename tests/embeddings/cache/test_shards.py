"""Shards are whole or not there, and come back as they were written."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from common.errors import Code
from embeddings.cache import tensor_files as tensors
from embeddings.cache.shards import ShardStore, ShardWriter, as_keys, ragged, settings_hash
from tests.helpers.errors import raises
from tests.helpers.shards import SETTINGS, gather, items, key, long, there


@pytest.mark.parametrize("kind", [ShardStore, ShardWriter])
def test_round_trip(folder, kind):
    store = kind(folder)
    assert there(store, range(7)) == [True] * 6 + [False]
    for first in (0, 3):
        keys, arrays = items(first)
        for name, array in arrays.items():
            found = store.rows(store.require(as_keys(keys)), name)
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)


def test_what_is_added_is_there_at_once(tmp_path):
    store = ShardWriter(tmp_path, SETTINGS)
    assert there(store, [1, 4]) == [False, False]
    store.add(*items())
    before = store.require(as_keys([key(1)]))
    store.add(*items(3))
    assert there(store, [1, 4]) == [True, True]
    # Places stay.
    assert store.rows(before, "states")[0, 0, 0] == 1


def test_rows_keep_order_and_repeats(folder):
    numbers = [5, 0, 5, 2, 0]
    assert gather(folder, numbers, "states")[:, 0, 0].tolist() == numbers
    assert gather(folder, numbers, "states").shape == (5, 2, 4)
    found = gather(folder, numbers, "likelihood")
    assert found[:, 0].tolist() == [5.25, 0.25, 5.25, 2.25, 0.25]
    assert np.isnan(found[:, 1]).all()
    assert gather(folder, [], "states").size == 0


def test_one_column_alone(folder):
    found = gather(folder, [4, 1], "states", 1)
    assert found.tolist() == [[4.25, 4.3125, 4.375, 4.4375], [1.25, 1.3125, 1.375, 1.4375]]
    assert found.dtype == np.float16


@given(st.sets(st.binary(min_size=32, max_size=32), max_size=40), st.data())
def test_any_keys_are_found_and_no_others(tmp_path_factory, keys, data):
    known = data.draw(st.sets(st.sampled_from(sorted(keys)))) if keys else set()
    store = ShardWriter(tmp_path_factory.mktemp("keys"))
    for part in (sorted(known)[::2], sorted(known)[1::2]):
        if part:
            store.add(part, {"x": np.array([list(k) for k in part])})
    places = store.find(as_keys(sorted(keys)))
    assert [k for k, place in zip(sorted(keys), places, strict=True) if place >= 0] == sorted(known)
    found = store.rows(places[places >= 0], "x")
    assert [bytes(row) for row in found.astype(np.uint8)] == sorted(known)


def test_items_of_different_lengths(tmp_path):
    store = ShardWriter(tmp_path)
    store.add([key(3), key(0), key(2)], ragged([long(3), long(0), long(2)]))
    store.add([key(5)], ragged([long(5)]))
    for found in (store, ShardWriter(tmp_path), ShardStore(tmp_path)):
        for item in (0, 2, 3, 5):
            assert torch.equal(found.get(key(item)), long(item))
            assert found.get(key(item)).dtype == torch.bfloat16
    with pytest.raises(KeyError):
        store.get(key(4))


@pytest.mark.parametrize("arrays", [ragged([long(3), long(2)]), items(2, 2)[1]])
def test_a_shard_without_a_checksum_is_damaged(tmp_path, arrays, capsys):
    keys = [key(3), key(2)]
    ShardWriter(tmp_path).add(keys, arrays)
    (path,) = tmp_path.glob("*.safetensors")
    found = {n: torch.as_tensor(a) for n, a in arrays.items()}
    save_file({"keys": torch.from_numpy(as_keys(keys).copy()), **found}, path)
    store = ShardStore(tmp_path)
    places = store.require(as_keys(keys))
    with raises(Code.RUN_FILE_DAMAGED, match="checksum"):
        store.rows(places, next(iter(arrays)))
    assert there(ShardWriter(tmp_path), [2, 3]) == [False, False]
    assert "is damaged" in capsys.readouterr().err


def test_what_is_missing_is_said_and_what_to_do(folder, tmp_path):
    with raises(Code.STATES_INCOMPLETE, match=r"2 answers"):
        gather(folder, [1, 6, 7, 6], "states")
    with raises(Code.STATES_INCOMPLETE, match=r"1 answers"):
        gather(tmp_path / "nowhere", [1], "states")


def test_what_a_crash_left_is_removed_by_who_writes(folder):
    leftover = folder / ".x.safetensors.4711.tmp"
    leftover.write_bytes(b"half")
    ShardStore(folder)
    assert leftover.exists()
    ShardWriter(folder)
    assert not leftover.exists()
    assert len(list(folder.glob("*.safetensors"))) == 2


def shard(keys, **arrays):
    """What is written of three items, with some of it changed."""
    return {"keys": keys, **items()[1], **arrays}


KEYS = as_keys(items()[0]).copy()


@pytest.mark.parametrize(
    "arrays",
    [
        shard(torch.zeros((3, 32), dtype=torch.bfloat16)),
        shard(KEYS, states=torch.zeros((3, 2, 4), dtype=torch.bfloat16)),
        shard(KEYS, states=np.zeros((2, 2, 4), np.float16)),
        shard(KEYS, states=np.zeros((3, 2), np.float16)),
        shard(KEYS, states=np.array(0, np.float16)),
        {"keys": KEYS, "ends": torch.tensor([1, 2]), "values": torch.zeros(2, 3)},
        {"keys": KEYS, "ends": torch.tensor([2, 1, 3]), "values": torch.zeros(3, 3)},
        {"keys": KEYS, "ends": torch.tensor([1, 2, 4]), "values": torch.zeros(3, 3)},
        {"keys": KEYS, "ends": torch.tensor([1, 2, 3])},
    ],
)
def test_a_shard_whose_arrays_are_not_of_its_items_is_damaged(tmp_path, arrays, capsys):
    store = ShardWriter(tmp_path / "store", SETTINGS)
    store.add(*items())
    (path,) = store.folder.glob("*.safetensors")
    path.unlink()
    tensors.write_tensors(path, arrays)
    with raises(Code.RUN_FILE_DAMAGED):
        gather(store.folder, [0], "states", 1)
    assert there(ShardWriter(store.folder), [0]) == [False]
    assert "removed and made again" in capsys.readouterr().err


def test_what_has_not_the_name_of_a_shard_is_left_alone(folder):
    other = folder / "model.safetensors"
    other.write_bytes(b"another's")
    (folder / f"{'0' * 32}.safetensors").mkdir()
    ShardWriter(folder)
    assert there(ShardStore(folder), [0]) == [True]
    assert other.read_bytes() == b"another's"


def test_a_store_that_is_a_link_is_read_and_not_written(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    assert there(ShardStore(linked), [0]) == [True]
    with raises(Code.STORE_IS_LINK):
        ShardWriter(linked)


def test_a_crash_while_writing_leaves_no_shard(tmp_path, monkeypatch):
    def crash(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    store = ShardWriter(tmp_path, SETTINGS)
    monkeypatch.setattr(tensors, "save_file", crash)
    with pytest.raises(KeyboardInterrupt):
        store.add(*items())
    assert there(store, [0]) == [False]
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_the_same_items_give_the_same_bytes(folder, tmp_path):
    other = ShardWriter(tmp_path / "other", SETTINGS)
    other.add(*items(3))
    other.add(*items(0))
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in other.folder.iterdir())
    assert len(names) == 3
    for name in names:
        assert (folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_settings_are_kept_for_people(folder):
    assert json.loads((folder / "settings.json").read_text()) == SETTINGS


def test_settings_hash_sees_values_and_not_their_order():
    assert settings_hash({"a": 1, "b": [2]}) == settings_hash({"b": [2], "a": 1})
    hashes = {settings_hash(s) for s in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {})}
    assert len(hashes) == 5
    assert {len(h) for h in hashes} == {16}
