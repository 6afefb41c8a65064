"""Cards that this machine does not have, as PyTorch would describe them."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from common.errors import Code
from embeddings.backbone import device
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import (
    check_device,
    compute_dtype,
    default_device,
    has_kernels,
    machine,
    store_suffix,
)
from embeddings.backbone.load import load_backbone
from tests.helpers.cards import A100, CUDA_12_8, T4, install
from tests.helpers.errors import raises

CONFIG = BackboneConfig(name="toy", source="no/where", dtype="bfloat16")


@pytest.fixture
def card(monkeypatch):
    """Makes PyTorch find cards of these capabilities, and a build for these architectures."""

    return partial(install, monkeypatch)


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((6, 0), CUDA_12_8, False),
        ((7, 0), CUDA_12_8, False),
        ((7, 5), CUDA_12_8, True),
        ((8, 9), CUDA_12_8, True),
        ((12, 1), CUDA_12_8, True),
        ((10, 3), ["sm_90", "sm_90a"], False),
        ((10, 3), ["sm_90", "compute_90"], True),
        ((6, 0), ["sm_61"], False),
        ((6, 1), ["sm_60"], True),
        ((9, 4), ["gfx942", "gfx1100"], True),
    ],
)
def test_machine_code_runs_on_cards_of_its_major_version_and_ptx_on_all_later_ones(
    capability, built_for, runs
):
    assert has_kernels(capability, built_for) == runs


def test_a_card_without_kernels_is_named(card):
    card((6, 0))
    with raises(Code.GPU_UNSUPPORTED, match=r"Card 0 \(sm_60\).* sm_75, "):
        check_device(CONFIG)


def test_a_model_that_is_spread_needs_all_cards(card):
    card((8, 0), (6, 0))
    assert len(check_device(CONFIG)) == 1
    with raises(Code.GPU_UNSUPPORTED, match="Card 1"):
        check_device(replace(CONFIG, device_map="auto"))
    with raises(Code.GPU_UNSUPPORTED, match="Card 1"):
        check_device(CONFIG, torch.device("cuda:1"))


def test_cards_and_their_free_memory_are_said(card):
    card(A100, A100)
    assert check_device(CONFIG) == ["GPU 0: Card 0 (sm_80), 14.0 of 15.0 GiB free"]
    both = check_device(replace(CONFIG, device_map="auto"))
    assert both[1] == "GPU 1: Card 1 (sm_80), 14.0 of 15.0 GiB free"


def test_before_ampere_bfloat16_is_read_in_float16_and_said(card, monkeypatch):
    # PyTorch says so of a T4: it counts emulation.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    card(T4)
    assert compute_dtype(CONFIG) == "float16"
    assert compute_dtype(CONFIG, trains=True) == "bfloat16"
    assert compute_dtype(replace(CONFIG, dtype="float32")) == "float32"
    assert machine(CONFIG) == {"device": "cuda", "dtype": "float16", "cards": ["Card 0 (sm_75)"]}
    _, note = check_device(CONFIG)
    assert "Card 0 (sm_75)" in note
    assert "float16" in note
    assert len(check_device(replace(CONFIG, dtype="float16"))) == 1
    card(A100)
    assert compute_dtype(CONFIG) == "bfloat16"
    assert len(check_device(CONFIG)) == 1


def test_one_old_card_of_two_is_enough(card):
    card(A100, T4)
    assert compute_dtype(CONFIG) == "bfloat16"
    assert compute_dtype(replace(CONFIG, device_map="auto")) == "float16"


def test_stores_are_named_by_the_kind_of_device_and_not_by_the_card(card, monkeypatch):
    int8 = replace(CONFIG, quantization="int8", batch_tokens=4096)
    for capability in (T4, A100):
        card(capability)
        assert store_suffix(CONFIG) == "-cuda"
        # LLM.int8 chooses its columns over a batch.
        assert store_suffix(int8) == "-cuda-4096"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert store_suffix(CONFIG) == store_suffix(int8) == ""


def test_a_cpu_computes_in_the_dtype_of_the_yaml(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine(CONFIG) == {"device": "cpu", "dtype": "bfloat16", "cards": []}


def test_int8_and_flash_attention_are_refused_where_they_have_no_kernel(card):
    card((6, 0), built_for=["sm_60"])
    with raises(Code.GPU_UNSUPPORTED, match=r"LLM.int8 for Card 0 \(sm_60\).*nf4"):
        check_device(replace(CONFIG, quantization="int8"))
    check_device(replace(CONFIG, quantization="nf4"))
    card(T4)
    check_device(replace(CONFIG, quantization="int8"))
    with raises(Code.GPU_UNSUPPORTED, match="flash_attention_2"):
        check_device(replace(CONFIG, attention="flash_attention_2"))
    card(A100)
    check_device(replace(CONFIG, attention="flash_attention_2"))


@pytest.mark.parametrize(
    ("driver", "visible", "stops"),
    [
        (True, None, True),
        (True, "0", True),
        (True, "", False),
        (True, "-1", False),
        (False, None, False),
    ],
)
def test_a_driver_without_cuda_stops_unless_the_cpu_is_asked_for(
    tmp_path, monkeypatch, driver, visible, stops
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "DRIVER", tmp_path if driver else tmp_path / "none")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if stops:
        with raises(Code.GPU_UNSUPPORTED, match="finds no GPU.*CUDA_VISIBLE_DEVICES"):
            default_device()
    else:
        assert default_device().type == "cpu"


def test_float16_is_said_to_be_slow_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check_device(CONFIG) == []
    (note,) = check_device(replace(CONFIG, dtype="float16"))
    assert "float16" in note


def test_a_driver_that_fails_is_one_line(card, monkeypatch):
    def fail(_):
        raise RuntimeError("Found no NVIDIA driver\nPlease check")

    card((8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", fail)
    with raises(Code.GPU_UNSUPPORTED, match="Found no NVIDIA driver"):
        check_device(CONFIG)


def test_a_card_that_fails_at_a_product_is_named(card, monkeypatch):
    def place(card):
        # PyTorch has no such card: the error is its own.
        return torch.device("cpu") if card.index == 0 else torch.device("cuda", 7)

    card(T4, T4)
    monkeypatch.setattr(device, "_place", place)
    assert len(check_device(CONFIG, torch.device("cuda:0"))) == 2
    with raises(Code.GPU_UNSUPPORTED, match=r"GPU 1, Card 1 \(sm_75\), .* in float16 \("):
        check_device(CONFIG, torch.device("cuda:1"))
    with raises(Code.GPU_UNSUPPORTED, match="GPU 1"):
        check_device(replace(CONFIG, device_map="auto"))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_card_that_multiplies_to_wrong_numbers_is_named(card, monkeypatch, dtype):
    card(A100, A100)
    config = replace(CONFIG, dtype=dtype)
    check_device(config)
    multiply = torch.Tensor.__matmul__

    def one_bit_wrong(one, other):
        product = multiply(one, other)
        if product.is_floating_point():
            product[3, 5] += 1
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", one_bit_wrong)
    with raises(Code.GPU_UNSUPPORTED, match=f"GPU 0, .* in {dtype} to wrong numbers"):
        check_device(config)


def test_no_weight_is_loaded_for_a_card_without_kernels(card, configs):
    card((6, 0))
    with raises(Code.GPU_UNSUPPORTED):
        load_backbone(configs["llama"])
    assert load_backbone(configs["llama"], "cpu").device.type == "cpu"
