"""Two processes stand in for two cards: the bytes of one, half of the tokens each."""

import os
import signal
import time
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch

from common.errors import Code
from embeddings import inference
from embeddings.cache.shards import ragged
from embeddings.frozen import chunks, device_readers
from embeddings.frozen.device_readers import DeviceReaders, answer_replica
from embeddings.frozen.extract import extract
from embeddings.inference import BatchBudget, FiniteCheck
from embeddings.judge.parallel_training import _trainer
from embeddings.replicas import (
    DEVICES,
    Replica,
    _shard_reader,
    add_shard,
    devices_for,
    read_shard,
)
from tests.helpers.errors import raises
from tests.helpers.extracted import BATTLES, FEW, extract_all, files

TWO = ("cpu", "cpu")
SECONDS_A_TOKEN = 0.002
"""So slow that the processes' own speed plays no part."""


def watched(folder, kill, *arguments):
    """A replica that says in a file what it reads, and begins when there are two.

    With ``kill`` the second one to be there is killed in its second batch.
    """
    replica = answer_replica(*arguments)
    own = folder / f"{len(list(folder.iterdir()))}-{os.getpid()}"
    own.touch()
    until = time.monotonic() + 120
    while len(list(folder.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.01)

    def read(batch):
        tokens = sum(answer.tokens for answer in batch)
        if kill and own.name.startswith("1-") and own.stat().st_size:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(SECONDS_A_TOKEN * tokens)
        with own.open("a") as file:
            file.write(f"{tokens}\n")
        return replica.read(batch)

    return replace(replica, read=read)


def read_by(folder):
    """Tokens by process."""
    return Counter(
        {path.name: sum(map(int, path.read_text().split())) for path in folder.iterdir()}
    )


@pytest.fixture
def small(monkeypatch):
    """Few battles are several chunks of several shards."""
    monkeypatch.setattr(chunks, "CHUNK", 6)
    monkeypatch.setattr(inference, "SHARD_ITEMS", 2)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_two_processes_make_the_bytes_of_one(small, configs, tmp_path, monkeypatch, capsys, kill):
    config, log = configs["llama"], tmp_path / "log"
    extract_all(BATTLES, config, tmp_path / "one", "train")
    extract_all(FEW, config, tmp_path / "one", "test")
    log.mkdir()
    monkeypatch.setattr(device_readers, "answer_replica", partial(watched, log, kill))
    with DeviceReaders(config, "torch", TWO) as two:
        extract([BATTLES], len(BATTLES), two, tmp_path / "two", "train")
        extract([FEW], len(FEW), two, tmp_path / "two", "test")
    assert files(tmp_path / "two") == files(tmp_path / "one")
    tokens = read_by(log)
    assert len(tokens) == 2
    if kill:
        assert "its process was killed by signal 9; the work goes on with cpu" in (
            capsys.readouterr().err
        )
        assert min(tokens.values()) < 0.2 * tokens.total()
    else:
        assert min(tokens.values()) > 0.4 * tokens.total()


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_one_error(configs, tmp_path, small):
    config = replace(configs["llama"], max_tokens=4000, batch_tokens=16384)
    with raises(Code.CONTEXT_EXCEEDED), DeviceReaders(config, "torch", TWO) as two:
        extract([BATTLES], len(BATTLES), two, tmp_path, "train")


def test_a_shard_travels_as_it_is():
    class Remembered:
        def add(self, keys, arrays):
            self.keys, self.arrays = keys, arrays

    class Item:
        def __init__(self, length):
            self.key, self.length, self.tokens = bytes([length] * 32), length, length

    def read(batch):
        return [torch.full((s.length, 2), s.length / 3, dtype=torch.bfloat16) for s in batch]

    shard, counted, store = [Item(5), Item(3)], [], Remembered()
    data = read_shard(Replica(read, BatchBudget(100), ragged), shard, counted.append)
    assert add_shard(store, data, FiniteCheck()) == store.keys == [s.key for s in shard]
    assert counted == [8]
    (ends, values) = (store.arrays[name] for name in ("ends", "values"))
    assert ends.tolist() == [5, 8]
    assert torch.equal(values, torch.cat(read(shard)))
    assert set(store.arrays) == {"ends", "values"}


def test_devices_that_get_a_model_of_their_own(configs, monkeypatch):
    config = configs["llama"]
    monkeypatch.delenv(DEVICES, raising=False)
    assert devices_for(config) == ()
    monkeypatch.setenv(DEVICES, "cpu, cpu")
    assert devices_for(config) == TWO
    monkeypatch.setenv(DEVICES, "cuda:0")
    with raises(Code.OPTION_INVALID, match="cuda:0"):
        devices_for(config)


@pytest.mark.parametrize(
    ("cards", "named", "spread", "found"),
    [
        (1, "", "", ()),
        (2, "", "", ("cuda:0", "cuda:1")),
        (2, "cuda:1", "", ("cuda:1",)),
        (1, "cuda:0,cuda:0", "", ("cuda:0", "cuda:0")),
        (2, "", "auto", ()),
    ],
)
def test_cards_that_get_a_model_of_their_own(configs, monkeypatch, cards, named, spread, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setenv(DEVICES, named)
    assert devices_for(replace(configs["llama"], device_map=spread)) == found


@pytest.mark.parametrize(
    "start", [lambda: _shard_reader(lambda: None), lambda: _trainer(None, None, None, 0)]
)
def test_a_card_that_a_process_does_not_find_is_not_replaced_by_the_cpu(monkeypatch, start):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with raises(Code.GPU_UNSUPPORTED):
        start()


def test_numbers_that_are_not_finite_stop_the_processes_before_they_are_stored():
    class Item:
        def __init__(self, number):
            self.key, self.length, self.tokens = bytes([number] * 32), 3, 3

    shard = [Item(number) for number in range(20)]
    replica = Replica(
        lambda batch: [torch.full((1, 2), torch.nan) for _ in batch], BatchBudget(0), ragged
    )
    data = read_shard(replica, shard)
    with raises(Code.NUMBERS_NOT_FINITE, match="20 of the first 20"):
        add_shard(None, data, FiniteCheck())
