"""A quantization is one entry: its name is taken everywhere, and its loader loads."""

from dataclasses import replace

import pytest
import torch

from common.errors import Code
from embeddings.backbone import load
from embeddings.backbone.config import load_config
from embeddings.backbone.load import load_backbone
from embeddings.backbone.quantization import (
    DTYPE_BYTES,
    NONE,
    QUANTIZATIONS,
    Quantization,
    bytes_per_weight,
)
from embeddings.backbone.shape import shape_of, weight_bytes
from pipelines import extract
from tests.helpers.cards import T4, pretend
from tests.helpers.errors import raises


def test_bytes_of_a_weight_by_hand():
    assert bytes_per_weight("none", "float32") == 4
    assert bytes_per_weight("none", "bfloat16") == bytes_per_weight("none", "float16") == 2
    assert bytes_per_weight("nf4", "bfloat16") == 0.52
    assert bytes_per_weight("int8", "float32") == 1.01


@pytest.mark.parametrize("name", ["none", "nf4", "int8"])
def test_embedding_and_head_are_counted_as_they_are_held(configs, architecture, name):
    config = replace(configs[architecture], quantization=name)
    held = load_backbone(config).model.get_memory_footprint()
    assert weight_bytes(config, shape_of(config)) == pytest.approx(held, rel=0.05)


@pytest.fixture
def halved(monkeypatch):
    """A quantization that nobody has, and that changes nothing."""
    monkeypatch.setitem(QUANTIZATIONS, "halved", Quantization("halved", dict, 2.0))


@pytest.mark.usefixtures("halved")
def test_a_new_entry_is_taken_by_configuration_and_command_line(configs, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(f"source: {configs['llama'].source}\nquantization: halved\n")
    assert load_config(str(path)).quantization == "halved"
    argv = ["--backbone", configs["llama"].source, "--quantization", "halved", "--dry-run"]
    assert extract.command(argv) == 0
    capsys.readouterr()


def test_unknown_ones_are_named_with_the_known(configs):
    with raises(Code.BACKBONE_CONFIG_INVALID, match="none, nf4, int8"):
        load_config(configs["llama"].source, "int3")


@pytest.mark.parametrize("dtype", DTYPE_BYTES)
def test_4_bit_weights_are_computed_with_in_the_dtype_of_the_rest(configs, dtype):
    config = replace(configs["llama"], quantization="nf4", dtype=dtype)
    layer = load_backbone(config).model.get_decoder().layers[0].self_attn.q_proj
    assert layer.compute_dtype == getattr(torch, dtype)


def test_before_ampere_4_bit_weights_are_computed_with_in_float16(configs, monkeypatch, capsys):
    pretend(monkeypatch, T4)
    load._say_once.cache_clear()
    config = replace(configs["llama"], quantization="nf4", dtype="bfloat16")
    backbone = load_backbone(config)
    assert backbone.config.dtype == "bfloat16"
    assert backbone.dtype == torch.float16
    assert backbone.decoder.layers[0].self_attn.q_proj.compute_dtype == torch.float16
    assert "reads in float16 on Card 0 (sm_75)" in capsys.readouterr().err
    trained = load_backbone(config, trains=True)
    assert trained.dtype == torch.bfloat16
    assert trained.decoder.layers[0].self_attn.q_proj.compute_dtype == torch.bfloat16


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_every_quantization_loads(configs, name):
    model = load_backbone(load_config(configs["llama"].source, name)).model
    assert bool(getattr(model, "is_quantized", False)) == (name != NONE)
