"""A store in memory gives back what it took, and keeps what was used last."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from embeddings.cache.memory import MemoryStore, kept
from embeddings.cache.shards import as_keys, ragged
from tests.helpers.shards import items, key, long


class Item:
    def __init__(self, number):
        self.key = key(number)


def missing(store, *numbers):
    return [item.key for item in store.missing([Item(i) for i in numbers])]


def add(store, *numbers):
    store.add([key(i) for i in numbers], {"states": torch.tensor([[float(i)] for i in numbers])})


def rows(store, *numbers):
    return store.rows(store.require(as_keys([key(i) for i in numbers])), "states").tolist()


def test_rows_are_found_again_in_any_order():
    store = MemoryStore()
    keys, arrays = items(0)
    store.add(keys, {name: torch.from_numpy(array) for name, array in arrays.items()})
    places = store.require(as_keys([key(2), key(0), key(2)]))
    assert store.rows(places, "states").tolist() == arrays["states"][[2, 0, 2]].tolist()
    assert store.rows(places, "states", 1).tolist() == arrays["states"][[2, 0, 2], 1].tolist()


def test_items_of_different_lengths_are_found_again():
    store = MemoryStore()
    store.add([key(3), key(1)], ragged([long(3), long(1)]))
    assert torch.equal(store.get(key(3)), long(3))
    assert torch.equal(store.get(key(1)), long(1))


def test_the_least_recently_used_make_room():
    store = MemoryStore(3)
    assert missing(store, 1, 2, 3) == [key(1), key(2), key(3)]
    add(store, 1, 2, 3)
    assert missing(store, 1, 4) == [key(4)]
    add(store, 4)
    assert rows(store, 1, 3, 4) == [[1], [3], [4]]
    with pytest.raises(KeyError):
        rows(store, 2)


def test_a_call_that_needs_more_than_may_be_kept_has_them():
    store = MemoryStore(2)
    assert len(missing(store, 1, 2, 3, 4)) == 4
    add(store, 1, 2, 3, 4)
    assert missing(store, 1, 2, 3, 4) == []
    assert rows(store, 4, 1) == [[4], [1]]
    assert missing(store, 5) == [key(5)]
    add(store, 5)
    assert rows(store, 5) == [[5]]
    assert len(missing(store, 1, 2, 3, 4)) >= 3


def test_a_model_is_made_once_where_it_is_shared():
    made, shared = [], {}
    for _ in range(2):
        assert kept(shared, "model", lambda: made.append(1) or len(made)) == 1
    assert made == [1]
    assert kept(None, "model", lambda: made.append(1) or len(made)) == 2


def test_threads_that_need_a_model_at_once_load_it_once():
    made, shared = [], {}

    def load():
        made.append(1)
        time.sleep(0.05)
        return object()

    with ThreadPoolExecutor(4) as pool:
        models = set(pool.map(lambda _: kept(shared, "model", load), range(4)))
    assert len(made) == len(models) == 1
