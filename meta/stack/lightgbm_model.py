"""LightGBM on both orders of every battle.

A model sees each training row twice, as it is and swapped, both copies in one fold. A prediction is
the mean of the raw scores of both orders, the swapped ones swapped back, so it is exactly
equivariant.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import lightgbm as lgb
import numpy as np

from arena.feature_table import FeatureTable
from arena.schema import SEED
from arena.swap import SWAP
from meta.votes import examples

FIXED = {
    "objective": "multiclass",
    "num_class": 3,
    "metric": "multi_logloss",
    "learning_rate": 0.04,
    "bagging_freq": 1,
    "feature_pre_filter": False,
    "max_bin": 63,
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}
BASELINE: dict[str, float] = {
    "num_leaves": 15,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.8,
    "lambda_l2": 5.0,
    "lambda_l1": 0.01,
}
"""Defaults for a few thousand rows and some hundred columns: the first trial of every study."""

MAX_ROUNDS, PATIENCE = 1500, 40

ROWS_PER_THREAD = 20_000
"""Rows, both orders counted, for each further thread inside one booster. Boosters of a
cross-validation run side by side; on few rows LightGBM's threads mostly wait for each other, and
where another process holds a core they wait sixty times as long (docs/LOG.md)."""


@dataclass(frozen=True)
class CrossValidated:
    """Scores by boosters that did not see the row, and how long these were trained."""

    raw: np.ndarray
    """Out-of-fold raw scores of both orders averaged, float64 (n, 3)."""
    rounds: np.ndarray
    """Rounds after which each booster was best on the fold that it left out, int (folds, bag)."""


class BothOrders:
    """A view and its votes, in both orders, binned once for many trainings.

    A shared vote is a row for each class, with the share as weight: their gradients add up to that
    of the cross entropy against the shares. Binning looks at features only, so sharing the bins
    between folds leaks no label.
    """

    def __init__(self, view: FeatureTable, votes: np.ndarray) -> None:
        """``votes``: labels (n,) or weighted shares (n, 3), see ``meta.votes``."""
        self.view, self.votes = view, votes
        self._rows, labels, weights = examples(votes)
        values = np.concatenate([view.values[self._rows], view.swapped_values()[self._rows]])
        self.data = lgb.Dataset(
            values,
            np.concatenate([labels, SWAP[labels]]),
            weight=None if weights is None else np.concatenate([weights, weights]),
            feature_name=[f"c{i}" for i in range(len(view.columns))],
            params=self._params(threads_per_booster(len(values))),
            free_raw_data=False,
        ).construct()
        self._one_at_a_time = threading.Lock()

    def subset(self, mask: np.ndarray, threads: int) -> lgb.Dataset:
        """Both orders of the rows in a mask, bool (n,); ``threads`` as all parallel calls."""
        first = np.flatnonzero(mask[self._rows])
        both = np.concatenate([first, first + len(self._rows)])
        with self._one_at_a_time:
            return self.data.subset(both, self._params(threads)).construct()

    @staticmethod
    def _params(threads: int) -> dict[str, Any]:
        binning = {k: FIXED[k] for k in ("max_bin", "feature_pre_filter", "verbosity")}
        return {**binning, "num_threads": threads}


def threads_per_booster(rows: int, parallel: int = 1) -> int:
    """Threads of a booster on ``rows`` rows, both orders, of ``parallel`` that run at once."""
    cores = os.cpu_count() or 1
    return max(1, min(cores // parallel, rows // ROWS_PER_THREAD))


def raw_scores(
    boosters: Sequence[lgb.Booster], view: FeatureTable, threads: int | None = None
) -> np.ndarray:
    """Mean raw scores over boosters and both orders; float64 (n, 3), exactly equivariant."""
    return mean_of_orders(boosters, view, lambda scores: scores, threads, raw_score=True)


def raw_scores_as_given(boosters: Sequence[lgb.Booster], view: FeatureTable) -> np.ndarray:
    """Mean raw scores over boosters of the given order alone; float64 (n, 3)."""
    threads = threads_per_booster(len(view.ids))
    scores = [b.predict(view.values, num_threads=threads, raw_score=True) for b in boosters]
    mean: np.ndarray = np.mean(scores, axis=0)
    return mean


def mean_of_orders(
    boosters: Sequence[lgb.Booster],
    view: FeatureTable,
    by_class: Callable[[np.ndarray], np.ndarray],
    threads: int | None = None,
    **options: bool,
) -> np.ndarray:
    """Mean over boosters and both orders of what they predict, the swapped order swapped back.

    Args:
        boosters: the bag.
        view: the design matrix, n rows.
        by_class: turns LightGBM's prediction into an array (n, 3, ...).
        threads: the same for all calls of LightGBM that run at once; by default by the rows.
        options: passed to ``lightgbm.Booster.predict``.
    """
    threads = threads or threads_per_booster(2 * len(view.ids))
    swapped_values = view.swapped_values()

    def of_both_orders(booster: lgb.Booster) -> np.ndarray:
        # Both orders of a booster first: a sum of more than two terms depends on their order.
        given, swapped = (
            by_class(np.asarray(booster.predict(values, num_threads=threads, **options)))
            for values in (view.values, swapped_values)
        )
        return np.asarray(given + swapped[:, SWAP])

    first, *others = map(of_both_orders, boosters)
    total: np.ndarray = sum(others, first)
    return total / (2 * len(boosters))


def cross_validate(
    data: BothOrders,
    folds: np.ndarray,
    bag: Sequence[Mapping[str, float]],
    after_fold: Callable[[int, np.ndarray, np.ndarray], None] | None = None,
) -> CrossValidated:
    """Train a bag of boosters for each fold, stopped early on the fold that they leave out.

    Args:
        data: the training rows.
        folds: int (n,); rows of one prompt group share a fold.
        bag: LightGBM parameters over ``FIXED``, one booster per fold for each, with its own seed;
            their raw scores are averaged.
        after_fold: called with the number of folds done, the positions of the fold's rows and
            their raw scores; may raise to stop (a pruned trial does).
    """
    raw = np.zeros((len(data.votes), 3))
    names = np.unique(folds)
    rounds = np.zeros((len(names), len(bag)), dtype=np.int64)
    workers = min(os.cpu_count() or 1, len(names) * len(bag))
    # LightGBM's number of threads is one for the whole process, and buffers of a training are made
    # for the number at its start: a call with another number meanwhile makes it write beyond them.
    threads = threads_per_booster(data.data.num_data(), workers)
    stopped = threading.Event()

    def stop_training(_: Any) -> None:
        # Nothing waits for boosters of a pruned trial, or after Ctrl-C.
        if stopped.is_set():
            raise lgb.callback.EarlyStopException(0, [])

    def fit(job: tuple[int, int]) -> lgb.Booster:
        fold, member = job
        return lgb.train(
            {**FIXED, **bag[member], "seed": SEED + member, "num_threads": threads},
            data.subset(folds != fold, threads),
            MAX_ROUNDS,
            valid_sets=[data.subset(folds == fold, threads)],
            callbacks=[stop_training, lgb.early_stopping(PATIENCE, verbose=False)],
        )

    with ThreadPoolExecutor(workers) as pool:
        fitted = pool.map(fit, product(names, range(len(bag))))
        try:
            for done, fold in enumerate(names, start=1):
                rows = np.flatnonzero(folds == fold)
                members = [next(fitted) for _ in bag]
                raw[rows] = raw_scores(members, data.view.take(rows), threads)
                rounds[done - 1] = [booster.best_iteration for booster in members]
                if after_fold is not None:
                    after_fold(done, rows, raw[rows])
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
    return CrossValidated(raw, rounds)


def train_on_all(
    data: BothOrders, bag: Sequence[Mapping[str, float]], rounds: np.ndarray
) -> list[lgb.Booster]:
    """Train a bag on all rows, as much longer than it was best in the folds as there are more rows.

    Args:
        data: the training rows.
        bag: as for :func:`cross_validate`.
        rounds: of that cross-validation, int (folds, bag).

    Returns:
        One booster for each member of the bag.
    """
    workers = min(os.cpu_count() or 1, len(bag))
    threads = threads_per_booster(data.data.num_data(), workers)
    longer = rounds.mean(axis=0) * len(rounds) / (len(rounds) - 1)
    everything = np.ones(len(data.votes), dtype=bool)

    def fit(member: int) -> lgb.Booster:
        return lgb.train(
            {**FIXED, **bag[member], "seed": SEED + member, "num_threads": threads},
            data.subset(everything, threads),
            max(1, round(longer[member])),
        )

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(fit, range(len(bag))))
