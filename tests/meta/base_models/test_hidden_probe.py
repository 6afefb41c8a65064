"""Probes of hidden states: one pass serves every set of left-out folds."""

import numpy as np
import pytest

from embeddings.frozen.states import HiddenStates
from meta.base_models import CrossFitted
from meta.base_models.hidden_probe import HiddenProbe

N, WIDTH = 90, 6


def toy(seed=0):
    """States of two slots, votes that follow them, and folds."""
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(2.0, 1.0, (2, N, WIDTH)).astype(np.float16) for _ in "ab")
    side = (a - b)[0, :, 0].astype(float) + rng.normal(size=N)
    votes = np.where(np.abs(side) < 0.5, 2, np.where(side > 0, 0, 1))
    return a, b, votes, np.arange(N) % 4


def probe(a, b):
    ids = [str(i) for i in range(a.shape[1])]
    return HiddenProbe(
        HiddenStates(ids, ["layer1.mean", "layer1.last"], lambda i, rows: (a[i][rows], b[i][rows]))
    )


def same(one, two, **tolerance):
    assert one.keys() == two.keys()
    for part in one:
        np.testing.assert_allclose(one[part], two[part], err_msg=part, **tolerance)


@pytest.mark.parametrize("soft", [False, True])
def test_a_fit_without_folds_is_a_fit_of_the_other_rows(soft):
    a, b, votes, folds = toy()
    if soft:
        votes = np.random.default_rng(1).dirichlet([1, 1, 1], N) * (1 + np.arange(N)[:, None] % 3)
    sets = [frozenset(), frozenset({2}), frozenset({0, 3})]
    fits = probe(a, b).fit_left_out(votes, folds, sets)
    assert list(fits) == sets
    for left_out, found in fits.items():
        rows = np.flatnonzero(~np.isin(folds, list(left_out)))
        same(found, probe(a[:, rows], b[:, rows]).fit(np.arange(len(rows)), votes[rows]), atol=2e-5)


def test_nothing_of_the_left_out_folds_reaches_a_fit():
    a, b, votes, folds = toy()
    left_out = frozenset({1, 2})
    out = np.isin(folds, list(left_out))
    wanted = probe(a, b).fit_left_out(votes, folds, [left_out])[left_out]
    flipped = np.where(out, (votes + 1) % 3, votes)
    found = probe(a, b).fit_left_out(flipped, folds, [left_out])[left_out]
    same(found, wanted, rtol=0, atol=0)
    other = [np.where(out[:, None], -3 * states, states) for states in (a, b)]
    same(probe(*other).fit_left_out(votes, folds, [left_out])[left_out], wanted, atol=2e-5)


def test_exchanged_answers_exchange_the_values_to_the_last_bit():
    a, b, votes, _ = toy()
    rows = np.arange(N)
    model = probe(a, b).fit(rows, votes)
    mirrored = probe(b, a).fit(rows, np.array([1, 0, 2])[votes])
    same(mirrored, model, rtol=0, atol=0)
    values, back = probe(a, b).values(model, rows), probe(b, a).values(model, rows)
    anti = np.array([column.parity == "anti" for column in probe(a, b).columns.values()])
    assert np.array_equal(values[:, anti], -back[:, anti])
    assert np.array_equal(values[:, ~anti], back[:, ~anti])
    assert (values[:, 0] ** 2).mean() > 0.01


def test_a_shared_vote_is_a_vote_of_half_weight_for_each():
    a, b, _, _ = toy()
    rows, shared = np.arange(N), np.tile([[0.5, 0.0, 0.5]], (N, 1))
    twice = [np.concatenate([states, states], axis=1) for states in (a, b)]
    halves = np.eye(3)[np.repeat([0, 2], N)] / 2
    same(probe(a, b).fit(rows, shared), probe(*twice).fit(np.arange(2 * N), halves), atol=2e-5)


def test_large_values_that_hardly_vary_lose_nothing():
    a, b, votes, _ = toy()
    rows = np.arange(N)
    wanted = probe(a, b).values(probe(a, b).fit(rows, votes), rows)
    far = np.zeros(WIDTH, np.float32)
    far[2] = 3000.0
    moved = probe(a.astype(np.float32) + far, b.astype(np.float32) + far)
    found = moved.values(moved.fit(rows, votes), rows)
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_blocks_change_nothing_but_the_rounding(monkeypatch):
    a, b, votes, _ = toy()
    rows = np.arange(N)
    wanted = probe(a, b).fit(rows, votes)
    values = probe(a, b).values(wanted, rows)
    for rows_at_once in ("BLOCK", "FEW"):
        monkeypatch.setattr(f"meta.base_models.hidden_probe.{rows_at_once}", 7)
    same(probe(a, b).fit(rows, votes), wanted, atol=2e-5)
    np.testing.assert_allclose(probe(a, b).values(wanted, rows), values, atol=1e-5)


def test_fewer_battles_than_dimensions_and_one_class_alone_do_no_harm():
    a, b, _, _ = toy()
    for label in (0, 2):
        model = probe(a, b).fit(np.arange(4), np.full(4, label))
        assert np.isfinite(probe(a, b).values(model, np.arange(N))).all()


def test_states_are_read_once_for_all_fits_and_once_for_each_table(monkeypatch):
    a, b, votes, folds = toy()
    monkeypatch.setattr("meta.base_models.hidden_probe.PART", N // 3)
    read = {0: np.zeros(N, int), 1: np.zeros(N, int)}

    def part(number, rows):
        if rows.step is None:
            assert len(a[number][rows]) <= N // 3
            read[number][rows] += 1
        return a[number][rows], b[number][rows]

    ids = [str(i) for i in range(N)]
    fits = CrossFitted(HiddenProbe(HiddenStates(ids, ["x", "y"], part)), votes, folds)
    fits.without(frozenset({0, 1}))
    assert len(fits.fitted) == 1 + 4 + 6
    fits.on_all()
    assert (read[0] == 1).all()
    fits.out_of_fold(0)
    fits.out_of_fold(None)
    assert all((times == 3).all() for times in read.values())


def test_of_one_scored_fold_only_its_sets_are_fitted():
    a, b, votes, folds = toy()
    fits = CrossFitted(probe(a, b), votes, folds, outer=[2])
    fits.out_of_fold(2)
    pairs = {left_out for left_out in fits.fitted if len(left_out) == 2}
    assert pairs == {frozenset({2, j}) for j in (0, 1, 3)}
    assert len(fits.fitted) == 1 + 4 + 3


@pytest.mark.parametrize("rows", [2000, 200, 1], ids=["all rows", "a tenth", "the first row"])
def test_states_far_out_leave_probes_of_use(rows):
    """Language models have a few dimensions a thousand times as large as the others."""
    rng = np.random.default_rng(3)
    n, width = 2000, 12
    a, b = (rng.normal(0.0, 1.0, (1, n, width)).astype(np.float16) for _ in "ab")
    side = (a - b)[0, :, 0].astype(float)
    votes = np.where(np.abs(side) < 0.3, 2, np.where(side > 0, 0, 1))
    for states in (a, b):
        states[:, :rows, -2:] += 1e4
    ids = [str(i) for i in range(n)]
    evidence = HiddenProbe(
        HiddenStates(ids, ["layer1.mean"], lambda i, rows: (a[i][rows], b[i][rows]))
    )
    near = np.arange(n // 10, n)
    found = evidence.values(evidence.fit(np.arange(n), votes), near)[:, 0]
    assert np.corrcoef(found, side[near])[0, 1] > 0.9
