"""The probe from which a head starts."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from common.errors import Code
from embeddings.judge.probe import PENALTIES, fit_probe
from tests.helpers.errors import raises


def drawn(n=600, f=40, seed=0):
    """States of one useful coordinate in a large scale, and the votes."""
    torch.manual_seed(seed)
    states = torch.randn(n, f) * torch.linspace(0.01, 200, f) + 3
    pull = (states[:, 5] - 3) / states[:, 5].std()
    logits = torch.stack([2 * pull, -2 * pull, torch.zeros(n)], dim=1)
    votes = torch.multinomial(torch.softmax(logits, dim=1), 1)[:, 0]
    return states, votes, [str(i) for i in range(n)]


def test_it_is_the_logistic_regression_of_standardised_states():
    states, votes, groups = drawn()
    found = fit_probe(states.clone(), torch.eye(3)[votes], groups)
    even = (states - states.mean(dim=0)) / states.std(dim=0, correction=0)
    peer = LogisticRegression(C=1 / found.penalty, tol=1e-8, max_iter=1000)
    peer.fit(even.double().numpy(), votes.numpy())
    mine = torch.softmax(even @ found.weight.T + found.bias, dim=1).numpy()
    assert np.allclose(mine, peer.predict_proba(even.double().numpy()), atol=2e-3)


def test_the_penalty_is_smallest_where_there_is_most_to_learn():
    states, votes, groups = drawn(n=3000, f=10)
    assert fit_probe(states.clone(), torch.eye(3)[votes], groups).penalty == min(PENALTIES)
    noise = votes[torch.randperm(len(votes))]
    assert fit_probe(states.clone(), torch.eye(3)[noise], groups).penalty == max(PENALTIES)


def test_rows_that_are_not_finite_are_left_out():
    states, votes, groups = drawn()
    whole = fit_probe(states[10:].clone(), torch.eye(3)[votes[10:]], groups[10:])
    states[:10] = float("nan")
    again = fit_probe(states.clone(), torch.eye(3)[votes], groups)
    assert torch.equal(whole.weight, again.weight)


def test_no_finite_row_is_one_line():
    states, votes, groups = drawn()
    states[:, 1] = float("inf")
    with raises(Code.STATES_NOT_FINITE, match=str(len(states))):
        fit_probe(states.clone(), torch.eye(3)[votes], groups)


@pytest.mark.parametrize("n", [1, 2])
def test_a_handful_of_rows_of_one_prompt_is_enough(n):
    states, votes, groups = drawn()
    found = fit_probe(states[:n].clone(), torch.eye(3)[votes[:n]], groups[:1] * n)
    assert torch.isfinite(found.weight).all()
    assert torch.isfinite(found.bias).all()
