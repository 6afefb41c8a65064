"""What a plan says of the machine at hand."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from common import files
from embeddings.backbone.config import BackboneConfig
from embeddings.frozen import costs, machine
from embeddings.frozen.costs import extraction_lines, reading_memory, unquantized_lines
from embeddings.frozen.machine import machine_lines, memory
from embeddings.frozen.plan import plan
from embeddings.replicas import DEVICES
from tests.helpers.cards import A100, T4, install
from tests.helpers.extracted import FEW


@pytest.fixture
def two_cards(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_memory_and_disk_are_asked(configs, tmp_path, monkeypatch):
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:        8000000 kB\nMemAvailable:    3145728 kB\n")
    monkeypatch.setattr(machine, "MEMINFO", told)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * 2**30))
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 3)
    (line,) = machine_lines(tmp_path / "run", configs["llama"])
    assert line.startswith("this machine: 3 cores, 3.0 of ")
    assert line.endswith(f"5.0 GiB free on the disk of {tmp_path / 'run'}")


def test_memory_where_the_system_does_not_say_what_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "none")
    free, total = memory()
    assert free == total > 2**28


def test_cards_that_read_are_named(configs, tmp_path, two_cards):
    assert machine_lines(tmp_path, configs["llama"])[1] == "a model each on cuda:0, cuda:1"


@pytest.mark.parametrize("devices", ["", "cpu,cpu"])
def test_time_is_that_of_one_process_on_a_cpu(configs, monkeypatch, devices):
    monkeypatch.setenv(DEVICES, devices)
    monkeypatch.setattr(costs, "measured_seconds", lambda *_: (100.0, 5))
    line = extraction_lines(plan([FEW], configs["llama"]), configs["llama"])[-1]
    assert "time on this machine: 100 s" in line


def test_two_cards_take_half_the_time(configs, monkeypatch, two_cards):
    counts = plan([FEW], configs["llama"])
    monkeypatch.setattr(costs, "measured_seconds", lambda *_: (100.0, 5))
    monkeypatch.setattr(costs, "unmeasurable", lambda *_: "")
    line = extraction_lines(counts, configs["llama"])[-1]
    assert "time on this machine: 50 s" in line
    assert "by one card; 2 will read" in line


GEMMA = BackboneConfig(
    name="gemma2-9b",
    source="no/where",
    dtype="bfloat16",
    quantization="int8",
    batch_tokens=8192,
    parameters=9_241_705_984,
)


def test_a_card_with_room_for_16_bits_is_told(monkeypatch):
    needed = reading_memory(GEMMA.max_tokens, replace(GEMMA, quantization="none"), on_gpu=True)
    assert needed > 2 * GEMMA.parameters
    install(monkeypatch, A100, free=needed + costs.CUDA_ITSELF)
    (line,) = unquantized_lines(GEMMA)
    for word in ("gemma2-9b", "int8", "bfloat16", "--quantization none", f"{needed / 2**30:.1f}"):
        assert word in line
    assert unquantized_lines(replace(GEMMA, quantization="none")) == []
    install(monkeypatch, A100, free=needed + costs.CUDA_ITSELF - 1)
    assert unquantized_lines(GEMMA) == []
    # Half of it on each of two, where one model is spread; a model each needs all of it.
    install(monkeypatch, A100, A100, free=needed / 2 + costs.CUDA_ITSELF)
    assert unquantized_lines(GEMMA) == []
    assert len(unquantized_lines(replace(GEMMA, device_map="auto"))) == 1
    install(monkeypatch, T4, free=needed + costs.CUDA_ITSELF)
    assert "In float16 " in unquantized_lines(GEMMA)[0]


def test_two_models_on_a_card_share_its_room(monkeypatch):
    needed = reading_memory(GEMMA.max_tokens, replace(GEMMA, quantization="none"), on_gpu=True)
    monkeypatch.setenv(DEVICES, "cuda:0,cuda:0")
    install(monkeypatch, A100, free=2 * needed)
    assert unquantized_lines(GEMMA) == []
    install(monkeypatch, A100, free=2 * (needed + costs.CUDA_ITSELF))
    assert len(unquantized_lines(GEMMA)) == 1


def test_a_cpu_is_told_nothing_of_quantizations(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert unquantized_lines(GEMMA) == []
