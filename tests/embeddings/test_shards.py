"""Arrays of different lengths by content: whole or not there, read in batches of a budget."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embeddings.pairs import Sequence
from embeddings.reading import batches
from embeddings.shards import Shards, fill


def sequence(n):
    ids = np.arange(n, dtype=np.int32)
    return Sequence(hashlib.sha256(ids.tobytes()).digest(), ids)


def double(batch):
    return [torch.from_numpy(s.ids * 2.0)[:, None].bfloat16() for s in batch]


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(0, 120))
def test_batches_lose_nothing_and_keep_to_the_budget(lengths, budget):
    found = list(batches(lengths, budget))
    assert [i for s in found for i in range(s.start, s.stop)] == list(range(len(lengths)))
    for s in found:
        part = lengths[s]
        assert len(part) == 1 or max(part) * len(part) <= budget


@pytest.mark.parametrize("budget", [0, 40])
def test_what_is_filled_is_found_again(tmp_path, budget):
    todo = [sequence(n) for n in range(90, 3, -1)]
    fill(Shards(tmp_path), todo, double, "reading", budget)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    shards = Shards(tmp_path)
    for s in todo:
        assert s.key in shards
        assert shards.get(s.key).dtype == torch.bfloat16
        assert torch.equal(shards.get(s.key), double([s])[0])
    assert sequence(3).key not in shards


def test_a_broken_shard_and_leftovers_are_removed(tmp_path, capsys):
    shards = Shards(tmp_path)
    for n in (5, 6):
        shards.add([sequence(n).key], double([sequence(n)]))
    (tmp_path / ".x.1.tmp").write_bytes(b"half")
    first, second = sorted(tmp_path.glob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-3])
    again = Shards(tmp_path)
    assert list(tmp_path.iterdir()) == [second]
    assert str(first) in capsys.readouterr().err
    assert sum(sequence(n).key in again for n in (5, 6)) == 1


def test_a_crash_costs_one_shard(tmp_path):
    todo = [sequence(n) for n in range(200, 50, -1)]

    def dies(batch):
        if len(batch[0].ids) == 70:
            raise RuntimeError("power cut")
        return double(batch)

    with pytest.raises(RuntimeError):
        fill(Shards(tmp_path), todo, dies, "reading", 0)
    left = [s for s in todo if s.key not in Shards(tmp_path)]
    assert len(left) == 150 - 128
    fill(Shards(tmp_path), left, double, "reading", 0)
    shards = Shards(tmp_path)
    assert all(s.key in shards for s in todo)
