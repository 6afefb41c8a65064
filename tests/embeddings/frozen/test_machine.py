"""What a plan says of the machine at hand."""

from types import SimpleNamespace

import pytest
import torch

from common import files
from embeddings.frozen import costs, machine
from embeddings.frozen.costs import extraction_lines
from embeddings.frozen.machine import machine_lines, memory
from embeddings.frozen.plan import plan
from embeddings.replicas import DEVICES
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
