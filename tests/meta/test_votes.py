"""Soft labels and weights: by hand, and that every fit takes them for what they say."""

import numpy as np
import pandas as pd
import pytest

from arena.battle_texts import BattleTexts
from arena.feature_table import Column, FeatureTable
from arena.swap import SWAP
from meta.base_models.baselines import prior
from meta.base_models.davidson import Davidson
from meta.base_models.symmetric_logistic import SymmetricLogistic
from meta.base_models.tfidf import Tfidf
from meta.calibration import select_method
from meta.calibrators import CALIBRATORS
from meta.metrics import scores
from meta.metrics.bootstrap import intervals
from meta.stack.lightgbm_model import (
    BASELINE,
    BothOrders,
    cross_validate,
    raw_scores,
    train_on_all,
)
from meta.votes import (
    examples,
    scored_votes,
    shares_of,
    training_votes,
    weights_of,
    winners,
)
from tests.helpers.toys import toy_evidence

SYMMETRIC = [name for name, calibrator in CALIBRATORS.items() if calibrator.symmetric]


def battles(labels, shared=None, weights=1.0):
    soft = pd.Series(shared or [None] * len(labels), dtype=object)
    return pd.DataFrame(
        {"label": np.array(labels, dtype=np.int8), "soft_label": soft, "weight": weights}
    )


def test_votes_of_no_shares_and_one_weight_are_their_labels():
    for weight in (1.0, 0.1, 7.0):
        votes = training_votes(battles([0, 1, 2], weights=weight))
        assert votes.dtype == np.int64
        assert votes.tolist() == [0, 1, 2]


def test_a_whole_share_is_the_vote_itself():
    assert scored_votes(battles([0, 1], [None, [0.0, 1.0, 0.0]])).tolist() == [0, 1]


def test_shares_and_weights_by_hand():
    table = battles([0, 2, 1], [[0.5, 0.25, 0.25], None, None], [1.0, 4.0, 1.0])
    assert scored_votes(table).tolist() == [[0.5, 0.25, 0.25], [0, 0, 1], [0, 1, 0]]
    votes = training_votes(table)
    assert votes.tolist() == [[0.25, 0.125, 0.125], [0, 0, 2], [0, 0.5, 0]]
    assert weights_of(votes).tolist() == [0.5, 2.0, 0.5]
    rows, labels, weights = examples(votes)
    assert rows.tolist() == [0, 0, 0, 1, 2]
    assert labels.tolist() == [0, 1, 2, 2, 1]
    assert weights.tolist() == [0.25, 0.125, 0.125, 2.0, 0.5]


def test_an_unknown_vote_has_no_share():
    assert scored_votes(battles([-1, 1], [None, [0.25, 0.75, 0.0]])).tolist() == [
        [0, 0, 0],
        [0.25, 0.75, 0],
    ]


def test_the_winner_of_a_swapped_vote_is_the_swapped_winner():
    votes = np.array([[0.5, 0.5, 0], [0.25, 0.5, 0.25], [0.5, 0, 0.5], [0.25, 0.25, 0.5]])
    assert winners(votes).tolist() == [2, 1, 2, 2]
    assert winners(votes[:, SWAP]).tolist() == SWAP[winners(votes)].tolist()


def test_scores_of_shared_votes_by_hand():
    p, votes = np.array([[0.5, 0.25, 0.25]]), np.array([[0.5, 0.5, 0.0]])
    assert scores.log_loss(p, votes) == pytest.approx(-(np.log(0.5) + np.log(0.25)) / 2)
    assert scores.brier(p, votes) == pytest.approx(0.25**2 + 0.25**2)
    assert scores.accuracy(p, votes) == 0.5
    assert scores.log_loss(np.tile(p, (2, 1)), np.array([[3.0, 0, 0], [0, 1, 0]])) == pytest.approx(
        -(3 * np.log(0.5) + np.log(0.25)) / 4
    )


def toys(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng, rng.normal(size=(n, 3)), rng.integers(0, 3, n)


def test_scores_of_whole_shares_are_those_of_labels():
    rng, _, y = toys()
    p, groups = rng.dirichlet([1, 1, 1], 60), np.arange(60) // 2
    assert intervals(p, np.eye(3)[y], groups) == intervals(p, y, groups)
    assert scores.log_loss(p, np.eye(3)[y]) == pytest.approx(scores.log_loss(p, y), abs=1e-15)


def fits():
    """Fits by name: of rows and votes to the fitted numbers."""
    _, x, _ = toys()
    ids = [str(i) for i in range(60)]
    kinds = {"a": Column("anti"), "b": Column("anti"), "s": Column("sym")}
    davidson = Davidson({"style": FeatureTable(ids, x.astype(np.float32), kinds)})
    words = ["green", "red", "list", "cat", "dog"]
    rng = np.random.default_rng(1)
    texts = pd.DataFrame(
        {
            name: [[" ".join(rng.choice(words, 6))] for _ in range(60)]
            for name in ("prompt", "response_a", "response_b")
        }
    ).assign(id=ids)
    tfidf = Tfidf.of(BattleTexts(texts), {})

    def logistic(rows, votes):
        fit = SymmetricLogistic.fit(x[rows][:, :2], x[rows][:, 2:], votes)
        return np.concatenate([fit.side, fit.tie, [fit.tie_bias]])

    def of_base_model(model):
        def fit(rows, votes):
            found = model.fit(rows, votes)
            return np.concatenate([found[name].ravel() for name in sorted(found) if name != "idf"])

        return fit

    def of_calibrator(name):
        return lambda rows, votes: np.array(
            list(CALIBRATORS[name].fit(x[rows], votes).coefficients().values())
        )

    return {
        "logistic": logistic,
        "davidson": of_base_model(davidson),
        "lexical": of_base_model(tfidf),
        "prior": lambda rows, votes: prior(votes),
        **{name: of_calibrator(name) for name in SYMMETRIC},
    }


FITS = fits()


@pytest.mark.parametrize("name", FITS)
def test_a_row_of_weight_two_is_that_row_twice(name):
    rows, votes = np.arange(60), toys()[2]
    # Frequencies of words count rows alike, so there it is all rows.
    weights = np.where((rows % 3 == 0) | (name == "lexical"), 2.0, 1.0)
    weighted = FITS[name](rows, np.eye(3)[votes] * weights[:, None])
    twice = np.repeat(rows, weights.astype(int))
    # The order of the rows, and rounding, move a fit that stops at a tolerance.
    assert weighted == pytest.approx(FITS[name](twice, votes[twice]), rel=2e-2, abs=2e-3)
    assert FITS[name](rows, votes) != pytest.approx(weighted, rel=2e-2, abs=2e-3) or name == "none"


@pytest.mark.parametrize("name", FITS)
def test_a_shared_vote_is_a_vote_for_each_class(name):
    rows, votes = np.arange(60), shares_of(toys()[2])
    step = 1 if name == "lexical" else 4
    votes[::step] = [0.25, 0.5, 0.25]
    single = np.concatenate([np.delete(rows, rows[::step]), np.repeat(rows[::step], 4)])
    labels = np.concatenate([toys()[2][rows % step != 0], np.tile([0, 1, 1, 2], 60 // step)])
    weights = np.where(np.arange(len(single)) < 60 - 60 // step, 1.0, 0.25)
    shared = FITS[name](rows, votes)
    apart = FITS[name](single, np.eye(3)[labels] * weights[:, None])
    assert shared == pytest.approx(apart, rel=2e-2, abs=2e-3)


def test_a_methods_gain_is_weighed():
    """The rows that speak for the second method weigh nothing, or all."""
    votes = np.array([0, 1] * 100)
    right, level = np.eye(3)[votes] * 0.9 + 0.03, np.full((200, 3), 1 / 3)
    forecasts = {"none": level, "bias": np.where(np.arange(200)[:, None] < 100, right, level[::-1])}
    heavy = np.where(np.arange(200) < 100, 1.0, 1e-6)
    groups = np.arange(200)
    assert select_method(forecasts, np.eye(3)[votes] * heavy[:, None], groups) == "bias"
    light = heavy[::-1]
    assert select_method(forecasts, np.eye(3)[votes] * light[:, None], groups) == "none"


def test_boosters_lean_as_the_shares_do():
    evidence = toy_evidence(160)
    view = evidence.tables["style"]
    folds = np.arange(160) // 2 % 4
    votes = np.full((160, 3), [0.25, 0.25, 0.5])
    x = view.values[:, view.names.index("x")]
    votes[x > 0] = [0.75, 0.25, 0.0]
    votes[x < 0] = [0.25, 0.75, 0.0]
    small = {**BASELINE, "min_data_in_leaf": 10, "feature_fraction": 1.0}
    data = BothOrders(view, votes)
    found = cross_validate(data, folds, [small])
    p = np.exp(found.raw) / np.exp(found.raw).sum(axis=1, keepdims=True)
    assert p[x > 0.2, 0].mean() == pytest.approx(0.75, abs=0.03)
    assert p[:, 2].max() < 0.02
    boosters = train_on_all(data, [small], found.rounds)
    swapped = raw_scores(boosters, view.swap())
    assert np.abs(swapped[:, SWAP] - raw_scores(boosters, view)).max() < 1e-12


def test_boosters_weigh_rows():
    """Half of the rows vote A without evidence, the others B: the heavy ones win."""
    view = toy_evidence(160).tables["style"]
    constant = FeatureTable(view.ids, np.zeros_like(view.values), view.columns)
    votes = np.eye(3)[np.where(np.arange(160) % 4 < 2, 2, 0)]
    votes[votes[:, 2] == 1] *= 3
    found = cross_validate(BothOrders(constant, votes), np.arange(160) // 4 % 4, [BASELINE])
    p = np.exp(found.raw[0]) / np.exp(found.raw[0]).sum()
    assert p == pytest.approx([0.125, 0.125, 0.75], abs=1e-3)
