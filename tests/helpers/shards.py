"""Toy shards of a store, and what is in them."""

import numpy as np
import torch

from embeddings.cache.shards import ShardStore, as_keys

SETTINGS = {"model": "toy", "slots": ["layer1.mean"]}


def key(item):
    # Zeros at both ends: keys are numbers of a fixed width and no texts.
    return bytes([*[0] * 30, item, 0])


def items(first=0, n=3):
    """Items ``first``, ``first + 1`` …; every number of an item begins with the item's."""
    numbers = np.arange(first, first + n)
    states = (numbers[:, None, None] + np.arange(8).reshape(2, 4) / 16).astype(np.float16)
    likelihood = (numbers[:, None] + np.array([0.25, np.nan])).astype(np.float32)
    return [key(i) for i in numbers], {"states": states, "likelihood": likelihood}


def long(item):
    """An item of as many rows as its number, in the dtype that numpy does not have."""
    return torch.full((item, 2), item + 0.5, dtype=torch.bfloat16)


def shard_of(folder, item):
    """The path of the shard that holds an item."""
    (path,) = (p for p in folder.glob("*.safetensors") if key(item) in p.read_bytes())
    return path


def gather(folder, numbers, name, column=None):
    store = ShardStore(folder)
    return store.rows(store.require(as_keys([key(i) for i in numbers])), name, column)


def there(store, numbers):
    return (store.find(as_keys([key(i) for i in numbers])) >= 0).tolist()
