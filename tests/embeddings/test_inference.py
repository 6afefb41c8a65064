"""Batches of a budget lose nothing, and what is read is stored shard by shard."""

import hashlib
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Code
from embeddings.cache.shards import ShardWriter, ragged
from embeddings.inference import BatchBudget, FiniteCheck, batches, read_into_store
from embeddings.prompts.answers import PackedAnswer
from embeddings.prompts.pairs import PackedPair
from tests.helpers.errors import raises


def sequence(n):
    ids = np.arange(n, dtype=np.int32)
    key = hashlib.sha256(ids.tobytes()).digest()
    return PackedPair(key, ids, np.zeros(n, dtype=np.int8))


def double(batch):
    return [torch.from_numpy(s.ids * 2.0)[:, None].bfloat16() for s in batch]


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(0, 120))
def test_batches_lose_nothing_and_keep_to_the_budget(lengths, budget):
    found = list(batches(lengths, budget))
    assert [i for s in found for i in range(s.start, s.stop)] == list(range(len(lengths)))
    for s in found:
        part = lengths[s]
        assert len(part) == 1 or max(part) * len(part) <= budget


def item(length, bare=0):
    none = np.empty(0, dtype=np.int64)
    ids = np.zeros(length, dtype=np.int32)
    return PackedAnswer(b"", ids, none, none, 0, np.zeros(bare, dtype=np.int32), bare, 0, length)


def lengths(items, budget):
    found = batches([i.length for i in items], budget)
    return [[len(i.ids) for i in items[part]] for part in found]


def test_batches_by_hand():
    assert lengths([item(5), item(5), item(3), item(2)], 10) == [[5, 5], [3, 2]]
    assert lengths([item(12), item(4), item(3), item(3)], 10) == [[12], [4, 3], [3]]
    assert lengths([item(4), item(3)], 0) == [[4], [3]]
    # The pass without the prompt may be the longer one.
    assert lengths([item(4, bare=6), item(4)], 10) == [[4], [4]]
    assert lengths([], 10) == []


@pytest.mark.parametrize("budget", [0, 40])
def test_what_is_stored_is_found_again(tmp_path, budget):
    todo = [sequence(n) for n in range(90, 3, -1)]
    read_into_store(ShardWriter(tmp_path), todo, double, "reading", BatchBudget(budget), ragged)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    store = ShardWriter(tmp_path)
    assert store.missing([*todo, sequence(3)])[0].key == sequence(3).key
    for s in todo:
        assert store.get(s.key).dtype == torch.bfloat16
        assert torch.equal(store.get(s.key), double([s])[0])


def test_a_crash_costs_one_shard(tmp_path):
    todo = [sequence(n) for n in range(200, 50, -1)]

    def dies(batch):
        if len(batch[0].ids) == 70:
            raise RuntimeError("power cut")
        return double(batch)

    with pytest.raises(RuntimeError):
        read_into_store(ShardWriter(tmp_path), todo, dies, "reading", BatchBudget(0), ragged)
    left = ShardWriter(tmp_path).missing(todo)
    assert len(left) == 150 - 128
    read_into_store(ShardWriter(tmp_path), left, double, "reading", BatchBudget(0), ragged)
    assert ShardWriter(tmp_path).missing(todo) == []


def with_memory_for(tokens, read):
    """A GPU stands in: a read that says what PyTorch says there."""

    def reading(batch):
        if len(batch) * max(len(s.ids) for s in batch) > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        read.append([len(s.ids) for s in batch])
        return double(batch)

    return reading


def test_a_gpu_out_of_memory_gets_half_the_budget_and_loses_nothing(tmp_path, capsys):
    todo = [sequence(n) for n in (9, 8, 7, 6, 5, 4, 3)]
    read = []
    read_into_store(
        ShardWriter(tmp_path), todo, with_memory_for(20, read), "reading", BatchBudget(40), ragged
    )
    assert read == [[9, 8], [7, 6], [5, 4, 3]]
    assert capsys.readouterr().err.count("going on with batches of 20 tokens") == 1
    store = ShardWriter(tmp_path)
    assert all(torch.equal(store.get(s.key), double([s])[0]) for s in todo)


def test_what_a_failed_pass_held_is_gone_before_the_next(tmp_path):
    class Activations:
        pass

    failed = []

    def read(batch):
        assert all(held() is None for held in failed)
        if len(batch) > 1:
            activations = Activations()
            failed.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return double(batch)

    read_into_store(
        ShardWriter(tmp_path), [sequence(9), sequence(3)], read, "reading", BatchBudget(20), ragged
    )
    assert len(failed) == 1


def test_a_sequence_that_memory_does_not_suffice_for_is_one_line(tmp_path):
    todo = [sequence(9), sequence(3)]
    with raises(Code.OUT_OF_MEMORY, match="9 tokens"):
        read_into_store(
            ShardWriter(tmp_path), todo, with_memory_for(5, []), "reading", BatchBudget(40), ragged
        )


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cublasLt ran into an error!\n\tA: torch.Size([8, 8])",
    ],
)
def test_what_cublas_and_bitsandbytes_say_of_memory_halves_the_budget_too(
    tmp_path, capsys, message
):
    todo = [sequence(n) for n in (9, 8, 7, 6)]

    def read(batch):
        if len(batch) > 1:
            raise RuntimeError(message)
        return double(batch)

    read_into_store(ShardWriter(tmp_path), todo, read, "reading", BatchBudget(40), ragged)
    assert ShardWriter(tmp_path).missing(todo) == []
    assert message.splitlines()[0] in capsys.readouterr().err


def test_other_errors_of_a_gpu_are_not_taken_for_memory(tmp_path):
    def read(batch):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        read_into_store(
            ShardWriter(tmp_path), [sequence(9)], read, "reading", BatchBudget(40), ragged
        )


def lost(lengths):
    """A read whose numbers are not finite for sequences of these lengths."""

    def read(batch):
        return [
            torch.full_like(numbers, torch.nan) if len(s.ids) in lengths else numbers
            for s, numbers in zip(batch, double(batch), strict=True)
        ]

    return read


def test_many_first_numbers_that_are_not_finite_stop_and_are_not_stored(tmp_path):
    todo = [sequence(n) for n in range(200, 50, -1)]
    with raises(Code.NUMBERS_NOT_FINITE, match="9 of the first 64"):
        read_into_store(
            ShardWriter(tmp_path), todo, lost(range(150, 159)), "x", BatchBudget(0), ragged
        )
    assert len(ShardWriter(tmp_path).missing(todo)) == len(todo)


@pytest.mark.parametrize("states", [torch.zeros(40, 2, 3).half(), torch.zeros(40, 2, 4).byte()])
def test_answers_are_lost_whose_likelihood_is_whatever_their_states_are_stored_in(states):
    likelihood = torch.zeros(40, 9)
    # A quantity of no tokens is NaN by itself.
    likelihood[:, 0] = torch.nan
    FiniteCheck().add({"states": states, "likelihood": likelihood})
    likelihood[:9] = torch.nan
    with raises(Code.NUMBERS_NOT_FINITE, match="9 of the first 40"):
        FiniteCheck().add({"states": states, "likelihood": likelihood})


def test_a_few_are_stored_and_later_shards_are_not_looked_at(tmp_path):
    todo = [sequence(n) for n in range(400, 50, -1)]
    few = lost({*range(390, 398), *range(100, 140)})
    read_into_store(ShardWriter(tmp_path), todo, few, "reading", BatchBudget(0), ragged)
    assert ShardWriter(tmp_path).missing(todo) == []
