"""Actors of a Ray cluster read what one process would, to the byte."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from common.errors import Code
from embeddings import inference
from embeddings.cache.shards import ShardWriter
from embeddings.frozen import chunks
from embeddings.frozen import ray_workers as cluster
from embeddings.frozen.extract import extract
from embeddings.frozen.ray_workers import RayWorkers, shares
from pipelines import extract as command
from tests.helpers.errors import raises
from tests.helpers.extracted import extract_all
from tests.helpers.tiny import tiny_battles

BATTLES = tiny_battles(
    ("Why?", "", "Because."), *((f"What is {i}?", f"It is {i} cats.", f"{i}") for i in range(9))
)
OTHERS = tiny_battles(*((f"Who is {i}?", f"{i} cats.", "Nobody") for i in range(4)))


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def node(alive=True, **resources):
    return {"Alive": alive, "Resources": {"memory": 1e9, **resources}}


@pytest.mark.parametrize(
    ("nodes", "asked", "found"),
    [
        ([node(CPU=8.0)], 0, (1, {"num_cpus": 8})),
        ([node(CPU=8.0)], 3, (3, {"num_cpus": 2})),
        ([node(CPU=8.0), node(CPU=2.0)], 0, (2, {"num_cpus": 4})),
        ([node(CPU=8.0), node(CPU=2.0)], 5, (5, {"num_cpus": 2})),
        ([node(CPU=8.0), node(), node(False, CPU=64.0)], 8, (8, {"num_cpus": 1})),
        ([node(CPU=8.0, GPU=2.0), node(CPU=8.0, GPU=1.0)], 0, (3, {"num_gpus": 1})),
        ([node(CPU=8.0, GPU=2.0)], 1, (1, {"num_gpus": 1})),
    ],
)
def test_shares_of_machines_by_hand(nodes, asked, found):
    assert shares(nodes, asked) == found


@pytest.mark.parametrize("nodes", [[node(CPU=2.0)], [node(CPU=9.0, GPU=2.0)], [node()]])
def test_more_actors_than_the_cluster_carries(nodes):
    with raises(Code.RAY_TOO_SMALL, match=r"--actors [02] at most"):
        shares(nodes, 3)


def test_ray_is_missing(monkeypatch, configs, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with raises(Code.RAY_MISSING):
        extract([BATTLES], len(BATTLES), RayWorkers(configs["llama"]), tmp_path, "train")


def test_options_of_a_cluster_without_one(capsys):
    assert command.command(["--actors", "2"]) == 2
    assert capsys.readouterr().err.startswith(f"[{Code.OPTIONS_CONFLICT}]")


@pytest.fixture
def small(monkeypatch):
    """Few battles are several chunks of several shards."""
    pytest.importorskip("ray")
    monkeypatch.setattr(chunks, "CHUNK", 6)
    monkeypatch.setattr(inference, "SHARD_ITEMS", 4)


@pytest.fixture
def alone(small, configs, tmp_path):
    """What one process makes of the battles."""
    extract_all(BATTLES, configs["llama"], tmp_path / "alone", "train")
    return tmp_path / "alone"


@pytest.mark.exhaustive
def test_two_actors_go_on_to_the_same_bytes(alone, configs, tmp_path, capsys):
    shared = shutil.copytree(alone, tmp_path / "shared")
    kept, *lost = sorted(shared.glob("hidden/*/*.safetensors"))
    stays = kept.stat().st_mtime_ns
    for path in lost:
        path.unlink()
    config = configs["llama"]
    with RayWorkers(config, actors=2) as two:
        extract([BATTLES], len(BATTLES), two, shared, "train")
        extract([OTHERS], len(OTHERS), two, shared, "test")
    assert capsys.readouterr().out.count("2 actors load") == 1
    extract_all(OTHERS, config, alone, "test")
    assert files(shared) == files(alone)
    assert kept.stat().st_mtime_ns == stays


@pytest.mark.exhaustive
def test_actors_that_are_killed_are_started_again(alone, configs, tmp_path, monkeypatch):
    add, killed = ShardWriter.add, []

    def killing(self, *shard):
        if not killed:
            found = subprocess.run(["pgrep", "-f", "ray::Reader"], stdout=subprocess.PIPE)
            killed.extend(map(int, found.stdout.split()))
            for process in killed:
                os.kill(process, signal.SIGKILL)
        add(self, *shard)

    monkeypatch.setattr(ShardWriter, "add", killing)
    with RayWorkers(configs["llama"], actors=2) as two:
        extract([BATTLES], 10, two, tmp_path / "shared", "train")
    assert len(killed) == 2
    assert files(tmp_path / "shared") == files(alone)


@pytest.mark.exhaustive
def test_no_cluster_at_an_address(small, configs, tmp_path):
    with (
        raises(Code.RAY_UNREACHABLE, match=r"127\.0\.0\.1:1"),
        RayWorkers(configs["qwen2"], "127.0.0.1:1") as none,
    ):
        extract([BATTLES[:1]], 1, none, tmp_path, "test")


@pytest.mark.exhaustive
def test_another_model_on_an_actors_machine_is_one_line(small, configs, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "fingerprint", lambda _: "another")
    with raises(Code.RAY_MODEL_DIFFERS), RayWorkers(configs["llama"]) as one:
        extract([BATTLES], 10, one, tmp_path, "train")
