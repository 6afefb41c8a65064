"""Poolings by hand on toy states; another one is one function."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from embeddings.frozen import pooling
from embeddings.frozen.pooling import (
    POOLINGS,
    mean_weights,
    means,
    pooled_states,
    register,
    slot_names,
    weighted,
)
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
    (slots,) = pooled_states([STATES], [answer(*positions)]).tolist()
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
    (slots,) = pooled_states([states], [answer([0], [1], 0)])
    assert slots.dtype == torch.float16
    assert slots[0].tolist() == [65504, -65504]
    assert slots[2, 0].isnan()


@pytest.fixture
def everything(monkeypatch):
    """A pooling that is one function."""
    monkeypatch.setattr(pooling, "POOLINGS", dict(POOLINGS))

    @register
    def everything(answer):
        return np.arange(len(answer.ids))


@pytest.mark.usefixtures("everything")
def test_a_new_pooling_has_slots_in_a_store_of_its_own(configs, tmp_path):
    battles = FEW[1:]
    extract_all(battles, configs["llama"], tmp_path, "train")
    states = HiddenStates.read(tmp_path, "train")
    place = states.slots.index("layer1.everything")
    assert states.slots[place + 1] == "layer2.mean"
    assert (states.slot(place)[0] != states.slot(0)[0]).any()


POSITIONS = [
    [np.arange(3, 11), np.array([10]), np.array([0, 2])],
    [np.array([1, 2, 4]), np.array([4]), np.array([1])],
]
"""Of two sequences, the second of which has six tokens of padding."""


def random_states(layers):
    """States of some layers, (2, 11, 64) each."""
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(2, 11, 64, generator=rng).bfloat16() for _ in range(layers)]


def test_one_product_gives_the_means_that_rows_give():
    weights = mean_weights(POSITIONS, 11)
    assert weights.sum(dim=2).numpy() == pytest.approx(1, abs=1e-6)
    states = random_states(2)
    for layer, by_rows in zip(states, means(states, POSITIONS), strict=True):
        assert by_rows.dtype == torch.float32
        torch.testing.assert_close(weighted(layer, weights), by_rows, rtol=0, atol=1e-6)


def test_padding_that_is_not_finite_has_no_say_in_a_product():
    (states,) = random_states(1)
    weights = mean_weights(POSITIONS, 11)
    whole = weighted(states, weights)
    states[1, 5:] = torch.inf
    states[0, 1] = torch.nan
    assert torch.equal(weighted(states, weights), whole)


def test_the_last_token_is_its_own_state_to_the_bit():
    (states,) = random_states(1)
    states[0, 10, 0] = -0.0
    (found,) = means([states], POSITIONS)
    assert torch.equal(found[0, 1].view(torch.int32), states[0, 10].float().view(torch.int32))


def test_layers_on_several_cards_are_pooled_where_they_lie_in_one_product_each(monkeypatch):
    """Fake tensors notice what is on another card; three poolings of two answers: one product."""
    products = []

    def bmm(weights, states):
        products.append((weights.device, states.device))
        return weights @ states

    monkeypatch.setattr(torch, "bmm", bmm)
    with FakeTensorMode():
        layers = [
            torch.empty(2, 4, 8, device=card, dtype=torch.float16) for card in ("cuda:0", "cuda:1")
        ]
        answers = [answer([2, 3], [0, 1], 3), answer([], [0], 1)]
        found = pooled_states(layers, answers)
    assert (found.shape, found.dtype, found.device) == ((2, 6, 8), torch.float16, layers[1].device)
    assert products == [(layer.device, layer.device) for layer in layers]
