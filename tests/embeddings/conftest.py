"""Tiny models, saved once for all tests of the room."""

import threading

import pytest
import torch

from embeddings import inference
from embeddings.backbone.config import load_config
from embeddings.backbone.load import load_tokenizer
from embeddings.cache.shards import ShardWriter
from embeddings.frozen.scoring import Scorer
from tests.helpers.extracted import BATTLES, SHARD, extract_all
from tests.helpers.shards import SETTINGS, items
from tests.helpers.tiny import ARCHITECTURES, save_tiny_model


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The folder of a tiny model by architecture."""
    root = tmp_path_factory.mktemp("models")
    return {name: save_tiny_model(root / name, name) for name in ARCHITECTURES}


@pytest.fixture(scope="session")
def configs(folders):
    """The configuration of a tiny model by architecture."""
    return {name: load_config(str(folder)) for name, folder in folders.items()}


@pytest.fixture(scope="session", params=ARCHITECTURES)
def architecture(request):
    return request.param


@pytest.fixture(scope="session")
def tokenizer(configs, architecture):
    return load_tokenizer(configs[architecture])


@pytest.fixture
def folder(tmp_path):
    """A store of two shards: items 0 to 2 and 3 to 5."""
    store = ShardWriter(tmp_path / "store", SETTINGS)
    store.add(*items(0))
    store.add(*items(3))
    return store.folder


@pytest.fixture(scope="module")
def small_shards():
    """Few battles make several shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "SHARD_ITEMS", SHARD)
        yield


@pytest.fixture(scope="module")
def calm(tmp_path_factory, configs, small_shards):
    """The evidence of all battles, made without interruption."""
    folder = tmp_path_factory.mktemp("calm")
    extract_all(BATTLES, configs["llama"], folder, "train")
    return folder


@pytest.fixture
def counted(monkeypatch):
    """How many items were read, in which threads, on how many cores each.

    Raises KeyboardInterrupt where ``stop`` items were read already.
    """

    class Count:
        items, stop, threads, cores = 0, 1 << 30, (), ()

    score = Scorer.score

    def counting(self, items):
        if Count.items >= Count.stop:
            raise KeyboardInterrupt
        Count.items += len(items)
        Count.threads += (threading.current_thread(),)
        Count.cores += (torch.get_num_threads(),)
        return score(self, items)

    monkeypatch.setattr(Scorer, "score", counting)
    return Count


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)
