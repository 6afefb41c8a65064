"""The forest in arrays is the one that was grown, and nothing else is read from a file."""

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from arena.feature_table import FeatureTable
from arena.swap import SWAP
from meta.stack import forest as module
from meta.stack.forest import Forest, grow
from meta.votes import labels_of
from tests.helpers.toys import toy_evidence


@pytest.fixture(scope="module")
def evidence():
    toy = toy_evidence(160)
    view = toy.tables["style"]
    values = view.values.copy()
    values[::9, view.names.index("x")] = np.nan
    gaps = FeatureTable(view.ids, values, view.columns)
    return gaps, labels_of(toy.battles), np.arange(160) // 2 % 4


@pytest.fixture(scope="module")
def grown(evidence):
    return grow(*evidence)


def test_the_arrays_predict_as_scikit_learn_does(evidence):
    view, labels, _ = evidence
    values = np.nan_to_num(view.values)
    trees = ExtraTreesRegressor(7, min_samples_leaf=3, random_state=1)
    trees.fit(values, np.eye(3)[labels])
    fill = np.zeros(len(view.columns), np.float32)
    forest = module._joined([estimator.tree_ for estimator in trees.estimators_], fill)
    expected = np.log(np.maximum(trees.predict(values), module.SMALLEST))
    np.testing.assert_allclose(forest.log_probabilities_as_given(view), expected, atol=1e-5)


def test_every_fold_has_trees_of_its_own_that_did_not_see_its_votes(evidence, grown):
    view, labels, folds = evidence
    forest, out_of_fold = grown
    assert len(forest.roots) == 4 * module.TREES
    changed = np.where(folds == 2, (labels + 1) % 3, labels)
    _, other = grow(view, changed, folds)
    assert np.array_equal(other[folds == 2], out_of_fold[folds == 2])
    assert not np.array_equal(other[folds == 1], out_of_fold[folds == 1])


def test_a_swap_of_the_answers_swaps_the_forecast_to_the_last_bit(evidence, grown):
    view, forest = evidence[0], grown[0]
    swapped = forest.log_probabilities(view.swap())[:, SWAP]
    assert np.array_equal(swapped, forest.log_probabilities(view))
    one_order = forest.log_probabilities_as_given(view)
    assert not np.allclose(one_order, forest.log_probabilities_as_given(view.swap())[:, SWAP])


def test_the_same_votes_grow_the_same_forest(evidence, grown):
    again, _ = grow(*evidence)
    for name, array in grown[0].arrays().items():
        assert np.array_equal(array, again.arrays()[name])


def test_contributions_of_all_columns_add_up(evidence, grown):
    view, forest = evidence[0], grown[0]
    found = forest.contributions(view, np.eye(len(view.columns)))
    assert found.shape == (160, 3, len(view.columns) + 1)
    np.testing.assert_allclose(found.sum(axis=2), forest.log_probabilities(view), atol=1e-9)
    # What the roots say is the same of every row, and of A and B alike.
    assert np.array_equal(found[0, :, -1], found[-1, :, -1])
    assert found[0, 0, -1] == found[0, 1, -1]


def test_a_column_that_all_rows_share_contributes_nothing(evidence):
    view, labels, folds = evidence
    place = view.names.index("x")
    values = view.values.copy()
    values[:, place] = np.nan
    forest, _ = grow(FeatureTable(view.ids, values, view.columns), labels, folds)
    found = forest.contributions(view, np.eye(len(view.columns)))
    assert (found[:, :, place] == 0).all()


def test_blocks_of_rows_change_nothing(evidence, grown, monkeypatch):
    view, forest = evidence[0], grown[0]
    member = np.eye(len(view.columns))
    before = forest.log_probabilities(view), forest.contributions(view, member)
    monkeypatch.setattr(module, "BLOCK", 7)
    assert np.array_equal(forest.log_probabilities(view), before[0])
    assert np.array_equal(forest.contributions(view, member), before[1])


def test_of_many_trees_fewer_rows_walk_at_once(evidence, grown, monkeypatch):
    view, forest = evidence[0], grown[0]
    before = forest.log_probabilities(view)
    monkeypatch.setattr(module, "WALKS", 5 * len(forest.roots))
    assert {len(block) for _, block in forest._blocks(view.values)} == {5}
    assert np.array_equal(forest.log_probabilities(view), before)
    monkeypatch.setattr(module, "WALKS", 1)
    assert len(next(forest._blocks(view.values))[1]) == 1


def test_an_infinite_value_is_as_one_that_is_missing(evidence, grown):
    view, labels, folds = evidence
    values = view.values.copy()
    gaps = np.isnan(values)
    values[gaps] = np.resize([np.inf, -np.inf], gaps.sum())
    infinite = FeatureTable(view.ids, values, view.columns)
    again, out_of_fold = grow(infinite, labels, folds)
    assert np.array_equal(out_of_fold, grown[1])
    assert np.array_equal(again.log_probabilities(infinite), grown[0].log_probabilities(view))


def test_no_row_has_no_forecast(evidence, grown):
    nothing = evidence[0].take(np.zeros(160, dtype=bool))
    assert grown[0].log_probabilities(nothing).shape == (0, 3)
    assert grown[0].contributions(nothing, np.ones((4, 2))).shape == (0, 3, 3)


def test_soft_votes_and_weights_count(evidence):
    view, labels, folds = evidence
    hard = np.eye(3)[labels]
    same, _ = grow(view, hard, folds)
    assert np.array_equal(same.shares, grow(view, labels, folds)[0].shares)
    # Where every vote is for both sides alike, no tree prefers one.
    even, _ = grow(view, np.full((160, 3), [0.4, 0.4, 0.2]), folds)
    np.testing.assert_allclose(np.exp(even.log_probabilities(view)), [[0.4, 0.4, 0.2]] * 160)
    heavy = np.where(labels[:, None] == 2, 5.0, 0.5) * hard
    more_ties = np.exp(grow(view, heavy, folds)[0].log_probabilities(view))[:, 2].mean()
    assert more_ties > np.exp(same.log_probabilities(view))[:, 2].mean() + 0.1


def test_what_was_saved_is_taken_back(evidence, grown):
    view, forest = evidence[0], grown[0]
    again = Forest.of(forest.arrays(), len(view.columns))
    assert np.array_equal(again.log_probabilities(view), forest.log_probabilities(view))


def altered(name, place, value):
    def alter(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name][place] = value

    return alter


def replaced(name, change):
    def replace(arrays):
        arrays[name] = change(arrays[name])

    return replace


DAMAGE = {
    "a child that is its parent": altered("left", 0, 0),
    "a child beyond the nodes": altered("right", 0, 10**6),
    "a child below zero": altered("left", 0, -1),
    "a column that is not there": altered("feature", 0, 4),
    "a leaf that is none": altered("feature", 0, -1),
    "a column below -1": altered("feature", 0, -2),
    "columns in two dimensions": replaced("feature", lambda feature: feature[:, None]),
    "a node of two parents": lambda arrays: arrays.update(left=arrays["right"]),
    "a tree that is there twice": replaced("roots", lambda roots: roots[[0, *range(len(roots))]]),
    "a node of no tree": replaced("roots", lambda roots: roots[1:]),
    "a root beyond the nodes": altered("roots", 0, 10**6),
    "no tree": replaced("roots", lambda roots: roots[:0]),
    "fewer thresholds than nodes": replaced("threshold", lambda values: values[1:]),
    "no shares of three votes": replaced("shares", lambda shares: shares[:, :2]),
    "a share that is not finite": altered("shares", (0, 0), np.nan),
    "a share below zero": altered("shares", (0, 0), -0.1),
    "a filling of other columns": replaced("fill", lambda fill: fill[:3]),
    "a filling that is not finite": altered("fill", 0, np.inf),
    "nodes of another type": replaced("left", lambda left: left.astype(np.float32)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_arrays_that_no_forest_has_are_refused(damage, grown):
    arrays = grown[0].arrays()
    damage(arrays)
    with pytest.raises(ValueError, match="forest"):
        Forest.of(arrays, 4)


@pytest.mark.parametrize("names", [{"roots"}, {"more"}])
def test_arrays_that_lack_or_exceed_are_refused(names, grown):
    arrays = grown[0].arrays()
    for name in names:
        if name in arrays:
            del arrays[name]
        else:
            arrays[name] = arrays["roots"]
    with pytest.raises(TypeError):
        Forest.of(arrays, 4)
