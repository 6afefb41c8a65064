"""Cards that this machine does not have, as PyTorch would describe them."""

from dataclasses import replace

import pytest
import torch

from common.errors import Code
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import check_device, has_kernels
from embeddings.backbone.load import load_backbone
from tests.helpers.errors import raises

CUDA_12_8 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
CONFIG = BackboneConfig(name="toy", source="no/where", dtype="bfloat16")


@pytest.fixture
def card(monkeypatch):
    """Makes PyTorch find cards of these capabilities, and a build for these architectures."""

    def install(*capabilities, built_for=CUDA_12_8):
        found = {
            "is_available": lambda: True,
            "current_device": lambda: 0,
            "device_count": lambda: len(capabilities),
            "get_device_capability": lambda i: capabilities[i],
            "get_device_name": lambda i: f"Card {i}",
            "get_arch_list": lambda: built_for,
        }
        for name, answer in found.items():
            monkeypatch.setattr(torch.cuda, name, answer)

    return install


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
    assert check_device(CONFIG) == []
    with raises(Code.GPU_UNSUPPORTED, match="Card 1"):
        check_device(replace(CONFIG, device_map="auto"))
    with raises(Code.GPU_UNSUPPORTED, match="Card 1"):
        check_device(CONFIG, torch.device("cuda:1"))


def test_bfloat16_is_said_to_be_emulated_before_ampere(card):
    card((7, 5))
    (note,) = check_device(CONFIG)
    assert "Card 0 (sm_75)" in note
    assert "float16" in note
    assert check_device(replace(CONFIG, dtype="float16")) == []
    card((8, 0))
    assert check_device(CONFIG) == []


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


def test_no_weight_is_loaded_for_a_card_without_kernels(card, configs):
    card((6, 0))
    with raises(Code.GPU_UNSUPPORTED):
        load_backbone(configs["llama"])
    assert load_backbone(configs["llama"], "cpu").device.type == "cpu"
