"""What a reading is said to cost: numbers worked out by hand, and the sizes of real models."""

from dataclasses import replace

import pytest
from transformers import AutoModelForCausalLM

from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.shape import parameters_of
from embeddings.frozen import costs as reading_costs
from embeddings.frozen.costs import estimate_reading, on_cards

CONFIG = BackboneConfig(name="toy", source="no/where")
LOGITS = 3 * 256_000 * 4
"""Bytes of a token's logits."""


@pytest.fixture(autouse=True)
def speed(monkeypatch):
    monkeypatch.setattr(reading_costs, "gemm_speed", lambda dtype: 1e12)


def test_time_by_hand():
    # 2 x parameters / (share x speed) are 4 seconds a token here.
    config = replace(CONFIG, parameters=1_100_000_000_000)
    first, here, there = estimate_reading(300, 100, config)
    assert "toy: 1100.00 G parameters, bfloat16" in first
    assert "= 660 TFLOP" in first
    assert "20 min at 55% of 1,000 GFLOP/s" in here
    # 660e12 / (0.4 * 312e12)
    assert "A100 40 GB: 5 s at 40% of 312 TFLOP/s (assumed, not measured)" in there
    assert there.endswith("which does not fit")
    _, _, small = estimate_reading(300, 100, replace(config, parameters=10**9, quantization="nf4"))
    assert not small.endswith("which does not fit")
    assert "at 25% of 312" in small


@pytest.mark.parametrize(("architecture", "heads"), [("llama", 0), ("gemma2", 4)])
def test_memory_by_hand(configs, architecture, heads):
    """A layer of width 64; Gemma-2's scores are stored, of 300 tokens that each of them sees."""
    config = replace(configs[architecture], dtype="float32", batch_tokens=100_000)
    _, here, there = estimate_reading(10**6, 300, config)
    weights = 4 * parameters_of(config)
    a_token = 48 * 64 + 14 * heads * 300
    gpu = weights + 100_000 * a_token + reading_costs.GPU_ROWS * LOGITS
    cpu = weights + 300 * a_token + reading_costs.HEAD_ROWS * LOGITS
    assert there.endswith(f", {gpu / 2**30:.1f} GiB")
    assert here.endswith(f", {cpu / 2**30:.1f} GiB")


@pytest.mark.parametrize(
    ("gib", "device_map", "told"),
    [
        (30, "", "30.0 GiB"),
        (50, "", "50.0 GiB, which does not fit: less"),
        (50, "auto", "50.0 GiB, some 25.0 GiB a card on 2"),
        (90, "auto", "90.0 GiB, some 45.0 GiB a card on 2, which does not fit: less"),
    ],
)
def test_a_model_that_is_spread_is_two_cards_work(gib, device_map, told):
    assert on_cards(gib * 2**30, replace(CONFIG, device_map=device_map), ": less") == told


def test_the_parameters_of_a_folder_are_counted(folders, configs):
    model = AutoModelForCausalLM.from_pretrained(folders["llama"])
    assert parameters_of(configs["llama"]) == sum(w.numel() for w in model.parameters())
    assert len(estimate_reading(100, 10, configs["llama"])) == 3


def test_nothing_to_read_costs_nothing():
    _, here, _ = estimate_reading(0, 0, replace(CONFIG, parameters=10**9))
    assert "this machine's CPU: 0 s" in here


def test_without_parameters_there_is_no_estimate():
    (line,) = estimate_reading(100, 10, CONFIG)
    assert "no estimate: `parameters` is not in the backbone's YAML" in line
