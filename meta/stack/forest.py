"""Extremely randomised trees on both orders of every battle, kept as plain arrays.

Their deep trees, whose thresholds are drawn by chance, err elsewhere than boosters do, so that the
mean of both has a lower log loss than either. scikit-learn grows them (Geurts et al. 2006,
"Extremely randomized trees"); its trees can only be stored as a pickle, so what they hold is kept
here in arrays, and read with numpy alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from arena.feature_table import FeatureTable
from arena.schema import SEED
from arena.swap import SWAP
from meta.votes import shares_of, weights_of

TREES = 40
"""Trees of each fold."""

ROWS_PER_LEAF, LEAVES = 4, 5000
"""Rows, both orders counted, of the smallest leaf: 4, and on many rows as many as leave about
so many leaves, for the sake of memory and time."""

COLUMNS_PER_SPLIT = 0.1
"""Share of the columns that a split chooses from."""

SMALLEST = 1e-3
"""The least probability of a class: trees that saw it nowhere near do not rule it out."""

BLOCK, WALKS = 1024, 2**20
"""Rows that walk down all trees at once, fewer where there are so many trees that this makes more
walks."""

DTYPES = {
    **dict.fromkeys(("roots", "feature", "left", "right"), np.int32),
    **{"threshold": np.float64, "shares": np.float32, "fill": np.float32},
}


Step = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Forest:
    """Trees whose nodes lie one after the other; children come after their parent.

    N nodes, T trees, d columns.
    """

    roots: np.ndarray
    """int32 (T,): the first node of each tree."""
    feature: np.ndarray
    """int32 (N,): the column that a node splits by, -1 in a leaf."""
    threshold: np.ndarray
    """float64 (N,): a row whose value is not above it goes left."""
    left: np.ndarray
    """int32 (N,): of a leaf the leaf itself, so that a row stays there."""
    right: np.ndarray
    """int32 (N,), likewise."""
    shares: np.ndarray
    """float32 (N, 3): of the three votes among the rows that came through a node."""
    fill: np.ndarray
    """float32 (d,): takes the place of a value that is missing or infinite."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, for safetensors."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], columns: int) -> Forest:
        """Take back what :meth:`arrays` gave.

        Args:
            arrays: from a file that anybody may have written.
            columns: of the design matrix.

        Raises:
            ValueError: a walk down the trees would leave them, not end, or be longer than the nodes
                of the file, since some are in several trees.
        """
        forest = cls(**arrays)
        nodes = np.arange(len(forest.feature))
        leaf = forest.feature < 0
        children = np.stack([forest.left, forest.right])
        sound = (
            all(forest.arrays()[name].dtype == dtype for name, dtype in DTYPES.items())
            and all(array.shape == nodes.shape for array in (forest.threshold, *children))
            and forest.shares.shape == (len(nodes), 3)
            and forest.fill.shape == (columns,)
            and forest.roots.ndim == 1
            and len(forest.roots) > 0
            and np.isin(forest.roots, nodes).all()
            and forest.feature.ndim == 1
            and (forest.feature >= -1).all()
            and (forest.feature < columns).all()
            and (children[:, leaf] == nodes[leaf]).all()
            and (children[:, ~leaf] > nodes[~leaf]).all()
            and (children < len(nodes)).all()
            # Each node is a root, or a child once.
            and np.array_equal(np.sort(np.append(forest.roots, children[:, ~leaf])), nodes)
            and all(np.isfinite(array).all() for array in (forest.shares, forest.fill))
            and (forest.shares >= 0).all()
        )
        if not sound:
            raise ValueError("the arrays are not those of a forest")
        return forest

    def log_probabilities_as_given(self, view: FeatureTable) -> np.ndarray:
        """Logarithms of the mean shares over all trees, of the given order alone; (n, 3)."""
        return _log(self._shares(view.values))

    def log_probabilities(self, view: FeatureTable) -> np.ndarray:
        """Logarithms of the mean shares over trees and both orders; float64 (n, 3).

        Exactly equivariant.
        """
        return _log(self._mean_of_orders(self._shares, view))

    def contributions(self, view: FeatureTable, member: np.ndarray) -> np.ndarray:
        """What groups of columns add to the log-probabilities, both orders averaged.

        At each split the shares change from a node to its child, and that change is the column's
        (Saabas 2014, "Interpreting random forests"). A change of a share is made one of its
        logarithm by the slope of the secant from the roots to the prediction, so that all of them
        add up to it exactly.

        Args:
            view: the design matrix, n rows and d columns.
            member: float (d, groups), 1.0 where a column belongs to a group.

        Returns:
            float64 (n, 3, groups + 1); the last is what the roots say of every row.
        """
        changes = self._mean_of_orders(lambda values: self._changes(values, member), view)
        root = self.shares[self.roots].mean(axis=0, dtype=np.float64)
        root = (root + root[SWAP]) / 2
        shares = self._mean_of_orders(self._shares, view)
        way = shares - root
        secant = (_log(shares) - _log(root)) / np.where(way == 0, 1.0, way)
        slope = np.where(way == 0, 1 / np.maximum(shares, SMALLEST), secant)
        base = np.broadcast_to(_log(root)[:, None], (*shares.shape, 1))
        return np.concatenate([changes * slope[:, :, None], base], axis=2)

    @staticmethod
    def _mean_of_orders(
        by_class: Callable[[np.ndarray], np.ndarray], view: FeatureTable
    ) -> np.ndarray:
        """Mean of an array (n, 3, ...) over both orders, the swapped one swapped back."""
        mean: np.ndarray = (by_class(view.values) + by_class(view.swapped_values())[:, SWAP]) / 2
        return mean

    def _steps(self, values: np.ndarray) -> Iterator[Step]:
        """All rows' steps down all trees, level by level, until each is in a leaf.

        Args:
            values: float32 (n, d).

        Yields:
            Of those that are in no leaf yet, int (m,): tree times n plus row, the column that their
            node splits by, the node, and the one to which they go.
        """
        n, d = values.shape
        flat = np.where(np.isfinite(values), values, self.fill).ravel()
        place = np.arange(len(self.roots) * n)
        nodes = np.repeat(self.roots, n)
        while len(place):
            column = self.feature[nodes]
            split = column >= 0
            place, nodes, column = place[split], nodes[split], column[split]
            below = flat[place % n * d + column] <= self.threshold[nodes]
            following = np.where(below, self.left[nodes], self.right[nodes])
            yield place, column, nodes, following
            nodes = following

    def _blocks(self, values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Where blocks of rows (n, d) start, and their values."""
        rows = max(1, min(BLOCK, WALKS // len(self.roots)))
        for start in range(0, len(values), rows):
            yield start, values[start : start + rows]

    def _shares(self, values: np.ndarray) -> np.ndarray:
        """Mean shares of the leaves that rows (n, d) end in; float64 (n, 3)."""
        shares = np.empty((len(values), 3))
        for start, block in self._blocks(values):
            leaves = np.repeat(self.roots, len(block))
            for place, _, _, following in self._steps(block):
                leaves[place] = following
            of_trees = self.shares[leaves].reshape(len(self.roots), len(block), 3)
            shares[start : start + len(block)] = of_trees.mean(axis=0, dtype=np.float64)
        return shares

    def _changes(self, values: np.ndarray, member: np.ndarray) -> np.ndarray:
        """Mean change of shares by group on the way of rows (n, d); float64 (n, 3, groups)."""
        n, d = values.shape
        changes = np.empty((n, 3, member.shape[1]))
        for start, block in self._blocks(values):
            by_column = np.zeros((3, len(block) * d))
            for place, column, nodes, following in self._steps(block):
                where = place % len(block) * d + column
                change = self.shares[following] - self.shares[nodes]
                for c in range(3):
                    by_column[c] += np.bincount(where, change[:, c], len(by_column[c]))
            summed = by_column.reshape(3, len(block), d) @ member / len(self.roots)
            changes[start : start + len(block)] = summed.transpose(1, 0, 2)
        return changes


def grow(
    view: FeatureTable,
    votes: np.ndarray,
    folds: np.ndarray,
    progress: Callable[[], None] = lambda: None,
) -> tuple[Forest, np.ndarray]:
    """Grow trees for each fold on the rows outside it; all of them together are the forest.

    Args:
        view: the training rows, n.
        votes: labels (n,) or weighted shares (n, 3), see ``meta.votes``.
        folds: int (n,); rows of one prompt group share a fold.
        progress: called for each fold.

    Returns:
        The forest, and log-probabilities (n, 3) of each row by the trees that did not see its fold.
    """
    shares, weights = shares_of(votes), weights_of(votes)
    shares = shares / np.where(weights > 0, weights, 1.0)[:, None]
    fill = _medians(np.concatenate([view.values, view.swapped_values()]))
    out_of_fold = np.zeros((len(votes), 3))
    trees: list[Any] = []
    for fold in np.unique(folds):
        training = folds != fold
        seen = view.take(training)
        values = np.concatenate([seen.values, seen.swapped_values()])
        grown = ExtraTreesRegressor(
            TREES,
            min_samples_leaf=max(ROWS_PER_LEAF, len(values) // LEAVES),
            max_features=COLUMNS_PER_SPLIT,
            random_state=SEED + int(fold),
            n_jobs=os.cpu_count(),
        ).fit(
            np.where(np.isfinite(values), values, fill),
            np.concatenate([shares[training], shares[training][:, SWAP]]),
            np.tile(weights[training], 2),
        )
        of_fold = [estimator.tree_ for estimator in grown.estimators_]
        out_of_fold[~training] = _joined(of_fold, fill).log_probabilities(view.take(~training))
        trees += of_fold
        progress()
    return _joined(trees, fill), out_of_fold


def _medians(values: np.ndarray) -> np.ndarray:
    """Median of each column without what is missing or infinite, 0 where all is; float32 (d,)."""
    values = np.where(np.isfinite(values), values, np.nan)
    never_known = np.isnan(values).all(axis=0)
    medians: np.ndarray = np.nanmedian(np.where(never_known, 0.0, values), axis=0)
    return medians.astype(np.float32)


def _joined(trees: Sequence[Any], fill: np.ndarray) -> Forest:
    """scikit-learn's trees (``sklearn.tree._tree.Tree``) one after the other."""
    counts = [tree.node_count for tree in trees]
    roots = np.cumsum([0, *counts[:-1]])
    nodes = np.arange(sum(counts))
    first = np.repeat(roots, counts)
    feature = np.concatenate([tree.feature for tree in trees])
    children = [
        np.where(feature < 0, nodes, np.concatenate(side) + first)
        for side in (
            [tree.children_left for tree in trees],
            [tree.children_right for tree in trees],
        )
    ]
    return Forest(
        roots.astype(np.int32),
        np.maximum(feature, -1).astype(np.int32),
        np.concatenate([tree.threshold for tree in trees]),
        children[0].astype(np.int32),
        children[1].astype(np.int32),
        np.concatenate([tree.value[:, :, 0] for tree in trees]).astype(np.float32),
        fill,
    )


def _log(shares: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, none of them below ``SMALLEST``."""
    logarithms: np.ndarray = np.log(np.maximum(shares, SMALLEST))
    return logarithms
