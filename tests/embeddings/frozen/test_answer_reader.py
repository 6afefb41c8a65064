"""One loaded model reads: in threads, on any number of cores, with the memory that there is."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import bitsandbytes
import numpy as np
import pytest
import torch

from embeddings.backbone.load import load_backbone, load_tokenizer
from embeddings.frozen import answer_reader as reader
from embeddings.frozen.extract import extract
from embeddings.frozen.language_model import LanguageModel
from embeddings.inference import read_shards
from embeddings.prompts.answers import pack_battles
from tests.helpers.extracted import BATTLES, FEW, extract_all, files

pytestmark = pytest.mark.usefixtures("small_shards")


@pytest.fixture(scope="module")
def config(configs):
    return configs["llama"]


def test_as_many_cores_as_may_be_give_the_same_bytes(calm, tmp_path, config):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        extract_all(BATTLES, config, tmp_path, "train")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert files(tmp_path) == files(calm)


def test_both_splits_are_read_by_one_model(calm, tmp_path, config, monkeypatch):
    loads = []
    monkeypatch.setattr(reader, "load_backbone", lambda c: loads.append(c) or load_backbone(c))
    model = LanguageModel(config)
    for split in ("test", "train"):
        battles = BATTLES[:3] if split == "test" else BATTLES
        extract([battles], len(battles), model, tmp_path, split)
    assert loads == [config]
    for name in ("hidden", "likelihood"):
        path = f"{name}/train.parquet"
        assert (tmp_path / path).read_bytes() == (calm / path).read_bytes()


def test_a_budget_that_was_lowered_stays_so_in_the_next_chunk(config, monkeypatch):
    items = pack_battles(FEW, config, load_tokenizer(config), "").answers
    length = max(item.length for item in items)
    reading = reader.AnswerReader(config, 0, np.empty(0, dtype=np.int32))
    reading.budget.tokens = 2 * length
    score, failed = reading._scorer.score, []

    def short_of_memory(batch):
        if len(batch) * batch[0].length > length:
            failed.append(batch)
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return score(batch)

    monkeypatch.setattr(reading._scorer, "score", short_of_memory)

    def read():
        return [shard for shard, _ in read_shards(items, reading.read, reading.budget)]

    once = read()
    seen = len(failed)
    assert read() == once
    assert len(failed) == seen > 0


@pytest.mark.usefixtures("two_threads")
def test_the_number_of_cores_changes_no_byte(calm, config, tmp_path, counted):
    extract_all(BATTLES, config, tmp_path, "train")
    assert files(tmp_path) == files(calm)
    assert len(set(counted.threads)) == 2
    assert set(counted.cores) == {1}
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantized_weights_are_rearranged_by_one_thread(
    config, tmp_path, monkeypatch, quantization
):
    layer = {"nf4": bitsandbytes.nn.Linear4bit, "int8": bitsandbytes.nn.Linear8bitLt}[quantization]
    passes, forward = {}, layer.forward

    def counting(self, x):
        passes.setdefault(self, []).append(threading.current_thread())
        return forward(self, x)

    monkeypatch.setattr(layer, "forward", counting)
    quantized = replace(config, quantization=quantization)
    extract_all(FEW, quantized, tmp_path / "two", "train")
    assert {threads[0] for threads in passes.values()} == {threading.current_thread()}
    assert all(len(set(threads)) > 1 for threads in passes.values())
    torch.set_num_threads(1)
    extract_all(FEW, quantized, tmp_path / "one", "train")
    assert files(tmp_path / "one") == files(tmp_path / "two")
