"""Log-probabilities against torch's own softmax, and the view by hand."""

import numpy as np
import torch

from arena.feature_table import Column
from embeddings.frozen.log_likelihood import (
    QUANTITIES,
    UNCONDITIONAL,
    likelihood_view,
    of_logits,
)


def test_tokens_by_hand():
    logits = torch.tensor([[2.0, 2.0, 0.0], [-3.0, 60.0, 1.0]])
    logs = torch.log_softmax(logits.double(), dim=-1)
    for wanted, likeliest in (([1, 1], [1, 1]), ([0, 2], [1, 0]), ([2, 0], [0, 0])):
        picked, entropy, first = of_logits(logits, torch.tensor(wanted)).double()
        torch.testing.assert_close(picked, logs[[0, 1], wanted], rtol=1e-6, atol=0)
        torch.testing.assert_close(entropy, -(logs.exp() * logs).sum(dim=-1), rtol=1e-6, atol=1e-12)
        assert first.tolist() == likeliest


def test_likelihood_view_by_hand():
    n = len(QUANTITIES)
    a, b = np.full((2, n), 3, np.float32), np.full((2, n), 5, np.float32)
    a[1, 0] = np.nan
    view = likelihood_view(["x", "y"], a, b)
    assert view.names[:3] == ["mean.diff", "mean.absdiff", "mean.sum"]
    assert view.values[0].tolist() == [-2, 2, 8] * n
    assert np.isnan(view.values[1, :3]).all()
    assert view.values[1, 3:].tolist() == [-2, 2, 8] * (n - 1)
    assert view.columns["ratio.diff"] == Column("anti", "likelihood")
    assert view.columns["ratio.sum"] == Column("sym", "likelihood")


def test_a_view_without_readings_without_prompts_lacks_their_columns():
    a = np.arange(2.0 * len(QUANTITIES), dtype=np.float32).reshape(2, -1)
    whole = likelihood_view(["x", "y"], a, 2 * a).frame()
    view = likelihood_view(["x", "y"], a, 2 * a, unconditional=False)
    left_out = set(whole) - set(view.names)
    kinds = ("diff", "absdiff", "sum")
    assert left_out == {f"{quantity}.{kind}" for quantity in UNCONDITIONAL for kind in kinds}
    assert view.frame().equals(whole[view.names])
