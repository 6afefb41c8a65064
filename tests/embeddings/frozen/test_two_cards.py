"""A tied head on two cards, which PyTorch simulates: it notices tensors on different ones."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from embeddings.backbone.load import Backbone
from embeddings.frozen.log_likelihood import log_probs_at

FIRST, LAST = "cuda:0", "cuda:1"


class Head:
    """A linear head on the first card."""

    def __init__(self):
        self.weight = torch.empty(32, 8, device=FIRST, dtype=torch.float16)
        self.bias = torch.empty(32, device=FIRST, dtype=torch.float16)

    def __call__(self, states):
        return torch.nn.functional.linear(states, self.weight, self.bias)


@pytest.fixture
def spread():
    """A backbone whose head lies with the embedding; the last states are on the other card."""
    with FakeTensorMode():
        head = Head()
        config = SimpleNamespace(model_type="gemma2", final_logit_softcapping=30.0)
        model = SimpleNamespace(lm_head=head, config=config)
        yield Backbone(model, None, None, torch.device(FIRST), 2)


def test_log_probabilities_are_made_on_the_card_of_the_head(spread):
    states = torch.empty(600, 8, device=LAST, dtype=torch.bfloat16)
    for count in (550, 0):
        found = log_probs_at(spread, states, torch.arange(count), torch.zeros(count).long())
        assert found.shape == (3, count)
        assert found.device == torch.device(FIRST)


def test_exact_logits_are_made_on_the_card_of_the_head(spread):
    states = torch.empty(5, 8, device=LAST, dtype=torch.bfloat16)
    exact = spread.exact_logits(states, [3, 4])
    assert exact.shape == (5, 2)
    # A verdict subtracts the one from the other.
    total = spread.logits(states).float().logsumexp(dim=1)
    assert (exact.logsumexp(dim=1) - total).device == torch.device(FIRST)
