"""What a fine-tuning is said to cost: numbers worked out by hand, and those of a real model."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import GPT2Config

from common import files
from common.errors import Code
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.layers import LayerRange
from embeddings.backbone.load import load_backbone, load_tokenizer
from embeddings.backbone.shape import Shape, shape_of
from embeddings.frozen.costs import duration
from embeddings.judge import costs
from embeddings.judge.config import JudgeConfig
from embeddings.judge.costs import (
    TIMED_BATTLES,
    Tokens,
    estimate_finetuning,
    gpu_memory,
    probe_memory,
    seconds_per_token,
    time_line,
)
from embeddings.judge.model import Judge
from embeddings.judge.trainer import Trainer
from embeddings.prompts.pairs import pack_pairs
from tests.helpers.errors import raises
from tests.helpers.planted import planted

SHAPE = Shape(layers=10, width=100, inner=300, projections=2_000, weights=1e9, unfused_heads=0)
CONFIG = BackboneConfig(name="toy", source="no/where", parameters=1_000_000_000)
RECIPE = JudgeConfig(rank=4, batch_tokens=500)


def test_the_sizes_are_those_of_the_model(configs, architecture):
    config = replace(configs[architecture], dtype="float32")
    shape = shape_of(config)
    judge = Judge(load_backbone(config), replace(RECIPE, rank=3))
    named = dict(judge.named_parameters())
    lora = sum(p.numel() for name, p in named.items() if "lora_" in name)
    weights = sum(p.numel() for n, p in named.items() if "proj" in n and n.endswith("layer.weight"))
    assert 3 * shape.projections * shape.layers == lora
    assert shape.weights == weights
    assert (shape.layers, shape.width, shape.inner) == (4, 64, 128)
    assert shape.unfused_heads == (4 if architecture == "gemma2" else 0)


def test_without_a_configuration_the_sizes_are_guessed_or_asked_for(tmp_path):
    shape = shape_of(replace(CONFIG, source=str(tmp_path)))
    assert (shape.layers, shape.width, shape.weights) == (33, 1581, 0.95e9)
    assert "sizes guessed from 1.0 G parameters" in shape.note
    with raises(Code.PARAMETERS_UNKNOWN):
        shape_of(replace(CONFIG, source=str(tmp_path), parameters=0))


def test_sizes_under_other_names_are_guessed(tmp_path):
    GPT2Config(n_embd=32).save_pretrained(tmp_path)
    shape = shape_of(replace(CONFIG, source=str(tmp_path)))
    assert (shape.layers, shape.width) == (33, 1581)
    assert "no config.json at hand that has them" in shape.note


# A layer keeps 34 * 100 + 3 * (6 * 100 + 300) = 6,100 bytes a token; LoRA has 4 * 2,000 a layer.
@pytest.mark.parametrize(
    ("config", "recipe", "shape", "longest", "expected"),
    [
        ({}, {}, {}, 200, 2e9 + 14 * 80_000 + 500 * 61_000),
        ({"quantization": "nf4"}, {}, {}, 200, 0.52e9 + 14 * 80_000 + 500 * 61_000),
        ({}, {}, {}, 800, 2e9 + 14 * 80_000 + 800 * 61_000),
        # 200 bytes of each layer's input, and one layer.
        ({}, {"gradient_checkpointing": True}, {}, 200, 2e9 + 14 * 80_000 + 500 * (2_000 + 6_100)),
        # And in int8 the inputs of each layer's products.
        (
            {"quantization": "int8"},
            {"gradient_checkpointing": True},
            {},
            200,
            1.01e9 + 14 * 80_000 + 500 * (2_000 + 6_100 + 12_000),
        ),
        # 14 bytes a head and token that a token sees.
        ({}, {}, {"unfused_heads": 8}, 200, 2e9 + 14 * 80_000 + 500 * 10 * (6_100 + 22_400)),
        # Nothing is trained: weights, and one layer of a batch that the backbone's YAML allows.
        ({"batch_tokens": 2_000}, {"epochs": 0}, {}, 200, 2e9 + 2_000 * 6_100),
    ],
)
def test_memory_on_a_gpu(config, recipe, shape, longest, expected):
    found = gpu_memory(
        *(replace(CONFIG, **config), replace(RECIPE, **recipe), replace(SHAPE, **shape)),
        *(10, longest),
    )
    assert found == pytest.approx(expected)


def test_memory_of_a_probe():
    recipe = replace(RECIPE, pool="answers", read_layers="0.5,1")
    # Two depths of four states of 100 float32 each, two orders, all and two thirds of them.
    assert probe_memory(recipe, SHAPE, 30) == pytest.approx(60 * 8 * 400 * 5 / 3)
    assert probe_memory(replace(RECIPE, pool="last"), SHAPE, 30) == pytest.approx(60 * 400 * 5 / 3)


def test_the_plan_says_what_it_counts(configs):
    config = configs["llama"]
    pairs = pack_pairs(planted(10), load_tokenizer(config), 256)
    out = np.arange(10) < 4
    recipe = replace(RECIPE, max_tokens=256, epochs=3, batch=4, top_layers=1)
    found = Tokens.of(pairs, pairs, None, [out, ~out], recipe, average=False)
    assert found == Tokens(3 * pairs.tokens, pairs.tokens, pairs.tokens, pairs.tokens)
    lines = "\n".join(
        estimate_finetuning(pairs, pairs, None, [out, ~out], config, recipe, average=False)
    )
    assert f"judge 1 of 2: 6 battles, {3 * 2} steps; leaves out 4" in lines
    assert f"judge 2 of 2: 4 battles, {3 * 1} steps; leaves out 6" in lines
    assert f"training {3 * pairs.tokens:,}, reading {2 * pairs.tokens:,}, lower" in lines
    assert f"lower layers once {pairs.tokens:,}" in lines
    # One layer of four, at rank 4.
    assert f"LoRA {4 * 1024:,} parameters" in lines
    assert "for the probe that a head starts from, 0.0 GiB" in lines
    assert re.search(r"time on this machine: .*, training .* and reading .* \(measured", lines)
    # bfloat16 states of 64 numbers.
    assert f"{pairs.tokens:,} tokens x 128 bytes" in lines


def test_a_plan_asks_the_disk_for_what_is_not_there_yet(configs, monkeypatch, tmp_path):
    config = configs["llama"]
    pairs = pack_pairs(planted(10), load_tokenizer(config), 256)
    recipe = replace(RECIPE, max_tokens=256, top_layers=1)
    needed = pairs.tokens * 128
    monkeypatch.setattr(costs, "time_line", lambda *_: "")

    def plan(free):
        monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        out = [np.arange(10) < 4]
        folder = tmp_path / "finetune"
        estimate_finetuning(pairs, pairs, None, out, config, recipe, average=False, folder=folder)

    plan(needed)
    with raises(Code.DISK_TOO_SMALL):
        plan(needed - 1)
    stored = tmp_path / "finetune" / "lower-1" / "a.safetensors"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"x" * 100)
    plan(needed - 100)


def test_time_is_measured_on_some_battles_and_grows_with_the_tokens(configs, monkeypatch):
    config = configs["llama"]
    pairs = pack_pairs(planted(40), load_tokenizer(config), 256)
    recipe = replace(RECIPE, max_tokens=256, top_layers=1)
    timed, run = [], Trainer.run
    monkeypatch.setattr(
        Trainer,
        "run",
        lambda self, *how: (timed.append(len(self.dataset.targets)), run(self, *how)),
    )
    reading, learning = seconds_per_token(pairs, config, recipe)
    assert reading > 0
    assert learning > 0
    assert timed == [TIMED_BATTLES + 1]
    assert seconds_per_token(pairs, config, replace(recipe, epochs=0))[1] == 0
    assert len(timed) == 1


def test_time_of_a_model_that_is_not_here_is_not_measured(configs, monkeypatch):
    pairs = pack_pairs(planted(4), load_tokenizer(configs["llama"]), 256)
    config = replace(CONFIG, source="owner/model")
    monkeypatch.setattr(costs, "seconds_per_token", None)
    layers = LayerRange.of((1.0,), 0, 4)
    line = time_line(Tokens(1, 1, 1, 0), pairs, layers, config, RECIPE, 1e9, 1)
    assert "not measured, for the weights are not on this machine" in line
    here = time_line(Tokens(1, 1, 1, 0), pairs, layers, configs["llama"], RECIPE, 1e18, 1)
    assert "not measured, for this machine has too little memory" in here


@pytest.mark.parametrize(
    ("cards", "judges", "training", "reading"),
    [(1, 5, 300, 80), (2, 5, 180, 40), (2, 4, 150, 40), (8, 5, 60, 10), (4, 1, 300, 20)],
)
def test_cards_share_the_time_by_hand(monkeypatch, cards, judges, training, reading):
    """300 s of training, a judge a card; 80 s of reading."""
    monkeypatch.setattr(costs, "cards_that_read", lambda _: cards)
    monkeypatch.setattr(costs, "unmeasurable", lambda *_: "")
    monkeypatch.setattr(costs, "seconds_per_token", lambda *_: (0.01, 0.03))
    # Half of the layers read what judges are asked: 6,000 and a half of 4,000 tokens.
    tokens, layers = Tokens(10_000, 6_000, 4_000, 0), SimpleNamespace(begin=2, end=4)
    pairs = SimpleNamespace(ids=["0"])
    line = time_line(tokens, pairs, layers, CONFIG, RECIPE, 1e9, judges)
    parts = f"training {duration(training)} and reading {duration(reading)} "
    assert parts in line
    assert f": {duration(training + reading)}, " in line
    assert (f"by one card; {cards} will work" in line) == (cards > 1)
