"""Poolings by hand on toy states; another one is one function."""

import numpy as np
import pytest
import torch

from embeddings.frozen import pooling
from embeddings.frozen.pooling import POOLINGS, pooled_states, register, slot_names
from embeddings.frozen.states import HiddenStates
from embeddings.prompts.answers import PackedAnswer
from tests.helpers.extracted import FEW, extract_all

STATES = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [5.0, 2.0], [9.0, 4.0]]])
"""One sequence of four tokens."""


def answer(content, prompt, last):
    """What is packed at these positions."""
    content, prompt = (np.array(positions, dtype=np.int64) for positions in (content, prompt))
    ids = np.arange(4, dtype=np.int32)
    return PackedAnswer(b"", ids, content, prompt, last, ids[:0], 0, 0, 4)


def pooled(*positions):
    slots = pooled_states([STATES], 0, answer(*positions)).tolist()
    return dict(zip(POOLINGS, slots, strict=True))


def test_poolings_by_hand():
    by_hand = {"mean": [7, 3], "last": [9, 4], "prompt": [2, 0]}
    assert pooled([2, 3], [0, 1], 3).items() >= by_hand.items()


def test_the_last_state_stands_for_the_mean_of_nothing():
    by_hand = {"mean": [3, 0], "last": [3, 0], "prompt": [2, 0]}
    assert pooled([], [0, 1], 1).items() >= by_hand.items()
    assert pooled([2], [], 2)["prompt"] == [5, 2]


def test_slots_are_layer_by_layer_in_the_order_of_registration():
    names = slot_names([1, 28])
    assert names[:3] == ["layer1.mean", "layer1.last", "layer1.prompt"]
    assert names[len(POOLINGS)] == "layer28.mean"


def test_what_is_not_finite_becomes_nan_and_what_is_too_large_the_largest():
    states = torch.tensor([[[1e9, -1e9], [torch.inf, 0.0]]])
    slots = pooled_states([states], 0, answer([0], [1], 0))
    assert slots.dtype == torch.float16
    assert slots[0].tolist() == [65504, -65504]
    assert slots[2, 0].isnan()


@pytest.fixture
def maximum(monkeypatch):
    """A pooling that is one function."""
    monkeypatch.setattr(pooling, "POOLINGS", dict(POOLINGS))

    @register
    def maximum(states, answer):
        return states[torch.from_numpy(answer.content)].float().amax(dim=0)


@pytest.mark.usefixtures("maximum")
def test_a_new_pooling_has_slots_in_a_store_of_its_own(configs, tmp_path):
    battles = FEW[1:]
    extract_all(battles, configs["llama"], tmp_path, "train")
    states = HiddenStates.read(tmp_path, "train")
    place = states.slots.index("layer1.maximum")
    assert states.slots[place + 1] == "layer2.mean"
    mean, largest = states.slot(0)[0], states.slot(place)[0]
    assert (largest >= mean).all()
