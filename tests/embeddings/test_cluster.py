"""Actors of a Ray cluster read what one process would, to the byte."""

import sys

import numpy as np
import pytest
from tiny import tiny_battles

from arena.errors import UserError
from embeddings import cluster, reader
from embeddings.backbone import load_tokenizer
from embeddings.cluster import Cluster, as_items, as_table, shares
from embeddings.evidence import extract
from embeddings.planning import pack_battles
from pipelines import extract as command

BATTLES = tiny_battles(
    ("Why?", "", "Because."), *((f"What is {i}?", f"It is {i} cats.", f"{i}") for i in range(9))
)


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def node(alive=True, **resources):
    return {"Alive": alive, "Resources": {"memory": 1e9, **resources}}


def test_items_travel_unchanged(configs):
    items = pack_battles(BATTLES, configs["llama"], load_tokenizer(configs["llama"]), "").items
    for sent, found in zip(items, as_items(as_table(items)), strict=True):
        for name, value in vars(sent).items():
            assert np.array_equal(getattr(found, name), value)
            assert getattr(getattr(found, name), "dtype", None) == getattr(value, "dtype", None)


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
    with pytest.raises(UserError, match=r"take --actors [02] at most"):
        shares(nodes, 3)


def test_ray_is_missing(monkeypatch, configs, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'ray\[data\]'"):
        extract([BATTLES], len(BATTLES), configs["llama"], tmp_path, "train", read=Cluster().fill)


def test_options_of_a_cluster_without_one(capsys):
    assert command.command(["--actors", "2"]) == 2
    assert "go with --engine ray" in capsys.readouterr().err


@pytest.mark.exhaustive
def test_two_actors_go_on_to_the_same_bytes(configs, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    for module in (cluster, reader):
        monkeypatch.setattr(module, "SHARD_ITEMS", 4)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    extract([BATTLES], len(BATTLES), configs["llama"], alone, "train")
    extract([BATTLES], len(BATTLES), configs["llama"], shared, "train")
    kept, *lost = sorted(shared.glob("hidden/*/*.safetensors"))
    stays = kept.stat().st_mtime_ns
    for path in lost:
        path.unlink()
    extract([BATTLES], len(BATTLES), configs["llama"], shared, "train", read=Cluster(actors=2).fill)
    assert files(shared) == files(alone)
    assert kept.stat().st_mtime_ns == stays
    with pytest.raises(UserError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        extract(
            [BATTLES[:1]], 1, configs["qwen2"], shared, "test", read=Cluster("127.0.0.1:1").fill
        )
