"""What an extraction is said to take: memory and disk worked out by hand, time as measured."""

import re
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.shape import parameters_of
from embeddings.frozen import costs
from embeddings.frozen.costs import extraction_lines, measured_seconds, memory_lines, reading_memory
from embeddings.frozen.plan import plan
from tests.helpers.extracted import BATTLES
from tests.helpers.tiny import tiny_battles

CONFIG = BackboneConfig(name="toy", source="no/where")
LOGITS = 3 * 256_000 * 4
"""Bytes of a token's logits."""


@pytest.fixture(scope="module")
def config(configs):
    return replace(configs["llama"], dtype="float32")


@pytest.mark.parametrize(("architecture", "heads"), [("llama", 0), ("gemma2", 4)])
def test_memory_by_hand(configs, architecture, heads):
    """A layer of width 64; Gemma-2's scores are stored, of 300 tokens that each of them sees."""
    config = replace(configs[architecture], dtype="float32", batch_tokens=100_000)
    weights = 4 * parameters_of(config)
    bytes_per_token = 48 * 64 + 14 * heads * 300
    cpu = weights + 300 * bytes_per_token + 128 * LOGITS
    gpu = weights + 100_000 * bytes_per_token + 512 * LOGITS
    assert reading_memory(300, config, on_gpu=False) == cpu
    assert reading_memory(300, config, on_gpu=True) == gpu
    (line,) = memory_lines(300, config)
    assert f"{cpu / 2**30:.1f} GiB on a CPU, {gpu / 2**30:.1f} GiB on a GPU" in line


def test_a_model_that_is_spread_takes_half_of_two_cards():
    config = replace(CONFIG, parameters=10**10, device_map="auto")
    (line,) = memory_lines(100, config)
    whole, half = map(
        float, re.search(r"([\d.]+) GiB on a GPU .* ([\d.]+) GiB each", line).groups()
    )
    assert half == pytest.approx(whole / 2, abs=0.1)


def test_the_parameters_of_a_folder_are_counted(folders, configs):
    model = AutoModelForCausalLM.from_pretrained(folders["llama"])
    assert parameters_of(configs["llama"]) == sum(w.numel() for w in model.parameters())


def test_the_disk_is_that_of_the_stored_states(config):
    answers = plan([BATTLES], config)
    # 20 answers of 4 layers x 3 poolings x 64 numbers in float16, 9 quantities, and a key.
    size = 20 * (2 * 12 * 64 + 4 * 9 + 32)
    (disk,) = (line for line in extraction_lines(answers, config) if "disk" in line)
    assert f"{size / 2**30:.2f} GiB" in disk


def test_time_is_measured_where_the_model_is_here(config):
    answers = plan([BATTLES], config)
    seconds, timed = measured_seconds(answers, config, "torch")
    assert 0 < seconds < 60
    lengths = len(answers.samples)
    assert lengths <= timed <= max(4, torch.get_num_threads()) * lengths
    assert "time on this machine" in extraction_lines(answers, config)[-1]


def test_time_grows_with_what_is_to_be_read(config, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(costs.time, "perf_counter", lambda: next(clock))
    answers = plan([BATTLES], config)
    seconds, _ = measured_seconds(answers, config, "torch")
    answers.tokens_by_length *= 10
    assert measured_seconds(answers, config, "torch")[0] == pytest.approx(10 * seconds)


def test_slow_models_are_timed_on_short_answers_only(config, monkeypatch):
    answers = plan([BATTLES, tiny_battles(("Why?", "the cat " * 60, "Because."))], config)
    every = measured_seconds(answers, config, "torch")[1]
    assert len(answers.samples) > 1
    monkeypatch.setattr(costs, "ENOUGH_SECONDS", 1e-9)
    shortest = answers.samples[min(answers.samples)]
    seconds, timed = measured_seconds(answers, config, "torch")
    assert seconds > 0
    assert timed == min(len(shortest), max(4, torch.get_num_threads())) < every


def test_a_model_that_is_elsewhere_or_too_large_is_not_timed(config, monkeypatch):
    answers = plan([BATTLES], config)
    elsewhere = replace(CONFIG, parameters=10**9)
    assert "not on this machine" in extraction_lines(answers, elsewhere)[-1]
    monkeypatch.setattr(costs, "_memory_here", lambda: 1000.0)
    assert "too little memory" in extraction_lines(answers, config)[-1]


def test_nothing_to_read_takes_no_time(config):
    assert "nothing" in extraction_lines(plan([BATTLES[:0]], config), config)[-1]


def test_without_parameters_memory_is_not_estimated(config):
    (line,) = extraction_lines(plan([BATTLES], config), CONFIG)
    assert "lacks `parameters`" in line
