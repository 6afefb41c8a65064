"""Attention on cards without flash attention, by the calls that it makes of PyTorch."""

from dataclasses import replace

import pytest
import torch

from common.errors import Code
from embeddings.backbone.attention import REPEATED
from embeddings.backbone.load import load_backbone, model_settings
from embeddings.backbone.shape import shape_of
from tests.helpers.cards import A100, T4, pretend
from tests.helpers.errors import raises

IDS = torch.arange(40).reshape(2, 20)


@pytest.fixture
def calls(monkeypatch):
    """How PyTorch's attention is called: heads of queries and of keys, what may be shared."""
    seen = []
    real = torch.nn.functional.scaled_dot_product_attention

    def spy(query, key, value, *args, **how):
        masked = how.get("attn_mask") is not None
        seen.append((query.shape[1], key.shape[1], how.get("enable_gqa", False), masked))
        return real(query, key, value, *args, **how)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    return seen


def states(config):
    with torch.inference_mode():
        return load_backbone(config).decoder(input_ids=IDS, use_cache=False).last_hidden_state


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_before_ampere_every_query_head_has_a_key_of_its_own(
    configs, architecture, monkeypatch, calls
):
    config = replace(configs[architecture], dtype="float16")
    wanted = states(config)
    # transformers lets two query heads share a key, which no kernel of a T4 does.
    assert set(calls) == {(4, 2, True, False)}
    calls.clear()
    pretend(monkeypatch, T4)
    assert load_backbone(config).model.config._attn_implementation == REPEATED
    found = states(config)
    assert set(calls) == {(4, 4, False, False)}
    assert torch.allclose(found, wanted, atol=2e-2)


@pytest.mark.parametrize(("dtype", "name"), [("bfloat16", "sdpa"), ("float32", REPEATED)])
def test_from_ampere_on_flash_attention_takes_16_bits(configs, monkeypatch, dtype, name):
    pretend(monkeypatch, A100)
    config = replace(configs["llama"], dtype=dtype)
    assert load_backbone(config).model.config._attn_implementation == name


def test_soft_capped_attention_stays_as_it_is(configs, monkeypatch):
    pretend(monkeypatch, T4)
    assert load_backbone(configs["gemma2"]).model.config._attn_implementation == "eager"


def test_the_yaml_names_an_attention_which_is_in_the_address(configs):
    config = replace(configs["gemma2"], dtype="float32")
    other = replace(config, attention="flex_attention")
    assert torch.allclose(states(other), states(config), atol=1e-4)
    assert "attention" not in model_settings(config)
    assert model_settings(other) == {**model_settings(config), "attention": "flex_attention"}


def test_an_attention_that_the_model_lacks_is_one_line(configs):
    with raises(Code.MODEL_LOAD_FAILED, match="attention"):
        load_backbone(replace(configs["gemma2"], attention="sdpa"))


def test_the_plan_counts_the_attention_that_will_run(configs):
    gemma2, llama = configs["gemma2"], configs["llama"]
    assert shape_of(gemma2).unfused_heads == 4
    assert shape_of(replace(gemma2, attention="flex_attention")).unfused_heads == 0
    assert shape_of(llama).unfused_heads == 0
    assert shape_of(replace(llama, attention="eager")).unfused_heads == 4
