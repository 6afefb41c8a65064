"""Judges that read: damaged weights, and worker processes that take each judge's weights."""

import os
from functools import partial

import numpy as np
import pytest

from common.errors import Code
from embeddings.judge import replicas
from embeddings.judge.replicas import untrained
from embeddings.judge.trainer import WEIGHTS
from embeddings.replicas import DEVICES
from tests.helpers.errors import raises
from tests.helpers.planted import examples, planted
from tests.helpers.tuned_judges import BRIEF, fit


@pytest.fixture
def judged(configs, tmp_path):
    """Two judges, their folders, and battles that they have not read."""
    config = configs["llama"]
    judges, folders, _ = fit(planted(6), config, BRIEF, tmp_path / "judges")
    return judges, folders, examples(planted(3, seed=1), config).pairs


def damage(folder):
    """Change a byte of a judge's weights."""
    path = folder / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_damaged_weights_are_one_line(judged):
    judges, folders, asked = judged
    damage(folders[1])
    with raises(Code.RUN_FILE_DAMAGED, match=f"{folders[1].name}.*finetune.py"):
        judges.logits(folders[1], asked, "x")


@pytest.mark.slow
def test_damaged_weights_are_the_same_line_with_a_process_a_device(judged, monkeypatch):
    judges, folders, asked = judged
    damage(folders[1])
    monkeypatch.setenv(DEVICES, "cpu,cpu")
    with raises(Code.RUN_FILE_DAMAGED, match=f"{folders[1].name}.*finetune.py"), judges:
        judges.logits(folders[1], asked, "x")


def loaded_once(log, *arguments):
    """A base whose process says in a file that it was loaded."""
    with (log / str(os.getpid())).open("a") as file:
        file.write("loaded\n")
    return untrained(*arguments)


@pytest.mark.slow
def test_processes_stay_and_load_the_base_once_for_all_judges(
    judged, configs, tmp_path, monkeypatch
):
    judges, folders, asked = judged
    log = tmp_path / "log"
    log.mkdir()
    monkeypatch.setattr(replicas, "untrained", partial(loaded_once, log))
    monkeypatch.setenv(DEVICES, "cpu,cpu")
    monkeypatch.setattr("embeddings.inference.SHARD_ITEMS", 2)
    with judges:
        two = [judges.logits(folder, asked, "x") for folder in folders]
        loads = [path.read_text() for path in log.iterdir()]
    assert loads == ["loaded\n"] * 2
    monkeypatch.delenv(DEVICES)
    other, again, _ = fit(planted(6), configs["llama"], BRIEF, tmp_path / "other")
    one = [other.logits(folder, asked, "x") for folder in again]
    assert np.array_equal(one, two)
