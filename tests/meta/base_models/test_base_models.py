"""Views that learn from the votes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

from arena.battle_texts import BattleTexts
from arena.feature_table import Column, FeatureTable
from common.errors import Code
from meta.base_models import BASE_MODELS
from meta.base_models.davidson import Davidson
from meta.base_models.ngrams import BUCKETS, counts
from meta.base_models.tfidf import Tfidf, _fitted
from meta.votes import labels_of
from tests.helpers.errors import raises
from tests.helpers.toys import toy_battles, toy_evidence


def of_texts(a, b, tmp_path, prompts=None):
    battles = pd.DataFrame(
        {
            "id": [str(i) for i in range(len(a))],
            "prompt": [[p] for p in (prompts or ["why?"] * len(a))],
            "response_a": [[t] for t in a],
            "response_b": [[t] for t in b],
        }
    )
    return Tfidf.of(BattleTexts(battles), {})


def votes(a, b, rng):
    """People like "sunny" and cannot tell where neither or both have it."""
    liked = np.array(["sunny" in x for x in a], int) - np.array(["sunny" in x for x in b], int)
    return np.where(liked > 0, 0, np.where(liked < 0, 1, 2))


def answers(n, rng):
    words = ["sunny", "grey", "a", "the", "day", "and", "night", "cold"]
    return [" ".join(rng.choice(words, 5)) for _ in range(n)]


def test_every_view_that_learns_is_known_by_its_name():
    assert {"hidden", "joint", "lexical", "davidson"} <= set(BASE_MODELS)
    assert all(view.kind.name == name for name, view in BASE_MODELS.items())


def test_words_that_people_like_are_found_on_new_battles(tmp_path):
    rng = np.random.default_rng(0)
    a, b = answers(600, rng), answers(600, rng)
    evidence, y = of_texts(a, b, tmp_path), votes(a, b, rng)
    model = evidence.fit(np.arange(400), y[:400])
    new = np.arange(400, 600)
    side, tie, cosine = evidence.values(model, new).T
    decisive = y[new] != 2
    assert ((side > 0) == (y[new] == 0))[decisive].mean() > 0.9
    assert tie[~decisive].mean() > tie[decisive].mean() + 1
    assert ((cosine > -1e-6) & (cosine < 1 + 1e-5)).all()


def test_winners_by_turns_hide_no_word(tmp_path):
    liked, other = ["a sunny day"] * 40, ["a grey night"] * 40
    a = [x for pair in zip(liked, other, strict=True) for x in pair]
    b = [x for pair in zip(other, liked, strict=True) for x in pair]
    evidence, y = of_texts(a, b, tmp_path), np.array([0, 1] * 40)
    side = evidence.values(evidence.fit(np.arange(80), y), np.arange(80))[:, 0]
    assert (side[::2] > 1).all()
    assert (side[1::2] < -1).all()


@pytest.mark.parametrize("name", ["lexical", "davidson"])
def test_exchanged_answers_exchange_the_values(name, tmp_path):
    rng = np.random.default_rng(1)
    if name == "lexical":
        a, b = answers(80, rng), answers(80, rng)
        evidence, swapped = of_texts(a, b, tmp_path), of_texts(b, a, tmp_path)
        y = votes(a, b, rng)
    else:
        toys = toy_evidence(80)
        evidence = Davidson({"style": toys.tables["style"]})
        swapped = Davidson({"style": toys.tables["style"].swap()})
        y = labels_of(toys.battles)
    rows = np.arange(80)
    model = evidence.fit(rows, y)
    found = FeatureTable(evidence.ids, evidence.values(model, rows), evidence.columns)
    assert np.array_equal(found.swap().values, swapped.values(model, rows))
    # And what is learned from the swapped battles is the same model.
    again = swapped.fit(rows, np.array([1, 0, 2])[y])
    assert np.allclose(evidence.values(again, rows), found.values, atol=2e-3)


def test_nothing_of_a_row_that_is_not_fitted_reaches_the_model(tmp_path):
    rng = np.random.default_rng(2)
    a, b = answers(60, rng), answers(60, rng)
    y = votes(a, b, rng)
    other = [*a[:40], *(["something else"] * 20)]
    rows = np.arange(40)
    one = of_texts(a, b, tmp_path).fit(rows, y[:40])
    two = of_texts(other, b, tmp_path).fit(rows, y[:40])
    assert all(np.array_equal(one[part], two[part]) for part in one)
    values = rng.normal(size=(60, 2)).astype(np.float32)
    changed = np.concatenate([values[:40], values[40:] * 9])
    columns = {"x": Column("anti"), "s": Column("sym")}
    ids = [str(i) for i in range(60)]
    one = Davidson({"v": FeatureTable(ids, values, columns)}).fit(rows, y[:40])
    two = Davidson({"v": FeatureTable(ids, changed, columns)}).fit(rows, y[:40])
    assert all(np.array_equal(one[part], two[part]) for part in one)


def test_davidson_finds_a_planted_score(tmp_path):
    """Votes drawn from the model itself: its score and its ties are found."""
    rng = np.random.default_rng(3)
    n = 60_000
    x, z = rng.normal(size=(2, n))
    raw = np.stack([x, -x, 0.8 * z - 0.5], axis=1)
    y = (raw + rng.gumbel(size=(n, 3))).argmax(axis=1)
    view = FeatureTable(
        [str(i) for i in range(n)],
        np.stack([x, z], axis=1),
        {"x": Column("anti"), "z": Column("sym")},
    )
    evidence = Davidson({"v": view})
    model = evidence.fit(np.arange(n), y)
    assert model["side"] == pytest.approx([2.0], abs=0.08)
    assert model["tie"] == pytest.approx([0.8, 0.0], abs=0.05)
    side, absside, tie = evidence.values(model, np.arange(n)).T
    p = np.stack([expit(-tie) * expit(side), expit(-tie) * expit(-side), expit(tie)], axis=1)
    wanted = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    assert np.abs(p - wanted).max() < 0.06
    assert np.array_equal(absside, np.abs(side))


def test_davidson_lives_with_missing_and_absurd_values():
    values = np.array([[np.nan, 1, np.nan], [1e30, 2, np.nan], [-1e30, np.nan, np.nan]] * 10)
    columns = {"x": Column("anti"), "z": Column("sym"), "void": Column("sym")}
    evidence = Davidson({"v": FeatureTable([str(i) for i in range(30)], values, columns)})
    model = evidence.fit(np.arange(30), np.array([2, 0, 1] * 10))
    found = evidence.values(model, np.arange(30))
    assert np.isfinite(found).all()
    assert found[1, 0] > 0 > found[2, 0]
    assert found[0, 0] == 0


def test_davidson_says_what_to_do_where_views_are_missing():
    evidence = toy_evidence(40)
    one = Davidson({"style": evidence.tables["style"]})
    model = one.fit(np.arange(40), labels_of(evidence.battles))
    less = FeatureTable(
        one.ids, one.design.values[:, :2], {"x": Column("anti"), "size": Column("sym")}
    )
    with raises(Code.VIEW_DIFFERS):
        Davidson({"v": less}).values(model, np.arange(40))


def test_one_class_alone_and_empty_texts_do_no_harm(tmp_path):
    evidence = of_texts(["", "x"] * 5, ["", ""] * 5, tmp_path, [""] * 10)
    rows = np.arange(10)
    for y in ([0] * 10, [2] * 10, [0, 1] * 5):
        model = evidence.fit(rows, np.array(y))
        assert np.isfinite(evidence.values(model, rows)).all()
        toys = Davidson({"style": toy_evidence(10).tables["style"]})
        assert np.isfinite(toys.values(toys.fit(rows, np.array(y)), rows)).all()


def test_equal_answers_to_empty_prompts_leave_the_shares_of_the_votes(tmp_path):
    evidence = of_texts(["same"] * 60, ["same"] * 60, tmp_path, [""] * 60)
    model = evidence.fit(np.arange(60), np.array([0, 1, 2] * 20))
    assert not model["side"].any()
    assert not model["tie"].any()
    assert model["bias"] == pytest.approx(np.log(1 / 2), abs=1e-3)


@given(st.lists(st.lists(st.one_of(st.none(), st.text()), max_size=3), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_text_can_be_counted(texts):
    found = counts(texts)
    assert (found.shape, found.dtype) == ((len(texts), 2 * BUCKETS), np.uint16)
    assert (found.data > 0).all()


def test_lone_surrogates_and_megabytes_can_be_counted():
    found = counts([["\ud800 word", None], ["a" * 1_000_000]])
    assert found.shape[0] == 2
    assert found.sum() < 50_000


def test_no_count_is_too_large_for_its_type():
    most = counts([["a" * 20_000], ["! " * 10_000], ["!" * 20_000]]).max(axis=1).toarray()[:, 0]
    assert most.tolist() == [19_997, 10_000, 20_000]


def test_idf_is_that_of_scikit_learn():
    battles = toy_battles(50, np.random.default_rng(0))
    evidence, rows = Tfidf.of(BattleTexts(battles), {}), np.arange(3, 40)
    texts = sparse.vstack([m[rows] for m in evidence.counts.values()]).astype(np.float32)
    expected = TfidfTransformer(sublinear_tf=True).fit(texts).idf_.astype(np.float16)
    assert np.array_equal(evidence.fit(rows, np.arange(37) % 3)["idf"], expected)


def test_many_battles_are_counted_in_processes_as_few_are(tmp_path, monkeypatch):
    battles = toy_battles(30, np.random.default_rng(0))
    whole = Tfidf.of(BattleTexts(battles), {})
    monkeypatch.setattr("meta.base_models.tfidf.CHUNK", 7)
    parts = Tfidf.of(BattleTexts(battles), {})
    assert parts.ids == battles["id"].tolist()
    assert all((whole.counts[s] != parts.counts[s]).nnz == 0 for s in whole.counts)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("density", [0.01, 0.05])
def test_a_question_is_fitted_as_with_all_columns(weighted, density):
    rng = np.random.default_rng(0)
    x = sparse.random_array((50, 400), density=density, rng=rng, format="csr", dtype=np.float32)
    answers, weights = rng.random(50) < 0.4, rng.random(50) if weighted else None
    plain = LogisticRegression(C=2.0, tol=1e-8).fit(x, answers, weights)
    few = LogisticRegression(C=2.0, tol=1e-8)
    occurs = np.diff(x.tocsc().indptr) > 0
    found = _fitted(few, x.copy(), answers, weights)
    assert len(few.coef_[0]) == (occurs.sum() if occurs.sum() < 200 else 400)
    assert found == pytest.approx(plain.coef_[0], abs=1e-5)
    assert not found[~occurs].any()
    assert few.intercept_ == pytest.approx(plain.intercept_, abs=1e-5)
