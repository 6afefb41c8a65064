"""Checks of the data: drift, leaks between the files, noise of the votes, columns that are dead."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

import lightgbm as lgb
import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from arena.folds import pair_hash, prompt_hash
from arena.schema import SEED, TEXTS, Turns, digest
from arena.swap import SWAP
from meta.audit.context import AuditContext, Result, not_applicable
from meta.audit.registry import check
from meta.audit.statistics import auc_with_error, folds_of, subsample
from meta.metrics.bootstrap import paired_bootstrap
from meta.votes import winners

DRIFT_AUC = 0.64
DRIFT_FOLDS, DRIFT_ROUNDS = 3, 60
MAX_DRIFT_ROWS = 3_000
"""Rows of either file that the model is trained and scored on."""
MIN_DRIFT_ROWS = 50
"""Rows of either file below which drift cannot be distinguished from chance."""
DRIFT_PARAMS = {
    "objective": "binary",
    "learning_rate": 0.1,
    "num_leaves": 7,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.3,
    "lambda_l2": 5.0,
    "max_bin": 63,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
    "seed": SEED,
}

LEAK_SHARE = 0.01

CONFLICT_SHARE = 0.01

LOST_BY_CHANCE = 0.001
NAMED = 5
"""Columns and faults that the sentence names."""


@check("C08")
def drift(context: AuditContext) -> Result:
    """Are the test battles like the training battles?

    A small LightGBM model, cross-fitted by group, distinguishes scored training battles from test
    battles. The figure is its AUC: .5 where they are alike. Views whose values come from models
    that saw votes are left out: their training values rest on fewer battles than their test values,
    which is no drift of the data. Threshold: AUC .64, which for two normal distributions is a shift
    of half a standard deviation and a population stability index of .25, the value from which
    credit scoring calls for action (Siddiqi 2006, Credit Risk Scorecards). Fails where the AUC is
    above and its 95% interval lies above .5.
    """
    if context.test_battles is None or context.test_design is None:
        return not_applicable("The run has no test battles.")
    names = np.array(context.design.names)
    kept = np.array([not name.startswith(context.vote_columns) for name in names], dtype=bool)
    train = subsample(len(context.rows), MAX_DRIFT_ROWS)
    test = subsample(len(context.test_battles), MAX_DRIFT_ROWS)
    if not kept.any():
        return not_applicable("Every view comes from models that saw votes.")
    if min(len(train), len(test)) < MIN_DRIFT_ROWS:
        return not_applicable(
            f"{len(train):,} training and {len(test):,} test battles are too few: drift needs "
            f"{MIN_DRIFT_ROWS} of either."
        )
    one, two = context.design.values[train][:, kept], context.test_design.values[test][:, kept]
    groups = np.concatenate(
        [context.groups[train], context.test_battles["group"].to_numpy(dtype=np.str_)[test]]
    )
    is_test = np.repeat([False, True], [len(train), len(test)])
    scores = _cross_fitted(np.concatenate([one, two]), is_test, groups)
    if scores is None:
        return not_applicable("Too few prompt groups to distinguish drift from memory.")
    auc, error = auc_with_error(scores, is_test, groups)
    low, high = auc - 1.96 * error, auc + 1.96 * error
    # NaN is a value of its own, below all others.
    filled = (np.where(np.isnan(values), -np.inf, values) for values in (one, two))
    distances = ks_2samp(*filled, axis=0, method="asymp").statistic
    top = np.argsort(-distances, kind="stable")[:3]
    columns = ", ".join(f"{names[kept][i]} ({distances[i]:.2f})" for i in top)
    fails = auc > DRIFT_AUC and low > 0.5
    meaning = (
        "The figures of this run hold for battles like the training ones: score on votes of the "
        "new kind before you rely on them"
        if fails
        else "They are alike as far as it matters"
    )
    return Result(
        "fail" if fails else "pass",
        f"A model distinguishes test from training battles with an AUC of {auc:.3f} (95% interval "
        f"{low:.3f} to {high:.3f}; {len(train):,} and {len(test):,} battles). {meaning}. Columns "
        f"that differ most, by Kolmogorov-Smirnov distance: {columns}.",
        auc,
        DRIFT_AUC,
        (low, high),
    )


def _cross_fitted(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray | None:
    """Out-of-fold scores (n,) of y, None where a fold's training rows are of one file."""
    folds = folds_of(groups, DRIFT_FOLDS)
    scores = np.empty(len(y))
    for fold in np.unique(folds):
        validation = folds == fold
        if len(np.unique(y[~validation])) < 2:
            return None
        train = lgb.Dataset(x[~validation], y[~validation].astype(np.float64))
        booster = lgb.train(DRIFT_PARAMS, train, DRIFT_ROUNDS)
        scores[validation] = booster.predict(x[validation], raw_score=True)
    return scores


@check("C09")
def prompt_leak(context: AuditContext) -> Result:
    """Does the test file contain prompts or pairs of answers of the training file?

    Figure: share of the test battles whose normalised prompt, or unordered pair of answers, occurs
    in training (``arena.folds``). Threshold: .01. A repeated battle can gain about a nat, so a
    hundredth of them moves a test score by up to .01, as much as one more view gains.
    """
    if not context.test_texts:
        return not_applicable("The run has no test battles.")
    return compare_prompts(context.texts, context.test_texts)


def compare_prompts(training: Iterable[pd.DataFrame], test: Iterable[pd.DataFrame]) -> Result:
    """The check C09 of two canonical tables in successive parts, neither of them empty."""
    prompts, pairs = (set(hashes) - {None} for hashes in zip(*_hashes(training), strict=True))
    seen = [(prompt in prompts, pair in pairs) for prompt, pair in _hashes(test)]
    same_prompt, same_pair = (sum(column) for column in zip(*seen, strict=True))
    leaked = sum(map(any, seen))
    share = leaked / len(seen)
    meaning = (
        "Scores on this test file are better than those on new prompts: leave these battles out "
        "when you compare, or trust the cross-validated figures"
        if share > LEAK_SHARE
        else "Scores on this test file are scores on new prompts"
    )
    return Result(
        "fail" if share > LEAK_SHARE else "pass",
        f"Of {len(seen):,} test battles {leaked:,} occur in training in part ({same_prompt:,} by "
        f"their prompt, {same_pair:,} by their pair of answers). {meaning}.",
        share,
        LEAK_SHARE,
    )


def _texts(battles: Iterable[pd.DataFrame]) -> Iterator[tuple[Turns, Turns, Turns]]:
    """Prompt and answers of each battle."""
    for part in battles:
        yield from zip(*(part[name] for name in TEXTS), strict=True)


def _hashes(battles: Iterable[pd.DataFrame]) -> Iterator[tuple[str, str | None]]:
    """Hashes of the prompt and of the pair of answers of each battle."""
    for prompt, a, b in _texts(battles):
        yield prompt_hash(prompt, a, b), pair_hash(a, b)


@check("C10")
def label_noise(context: AuditContext) -> Result:
    """Do battles that occur more than once have different votes?

    Battles are the same where prompt and answers are, in whichever order; votes are compared in one
    order. Figure: share of the training battles that have a twin with another vote. Threshold: .01.
    Two votes that differ cost at least log 2 each, so a hundredth of them makes .007 nats that no
    model can win. The LMSYS file has .0002.

    The sentence also says how often two votes on one battle differ, d. Then no forecast of such
    battles can have an expected log loss below -log(1 - d): 1 - d is the mean of sum p², the
    entropy of p is at least -log(sum p²) (Rényi's entropies fall with their order), and -log is
    convex.
    """
    n = len(context.battles)
    twins = [rows for rows in _same_battle(context) if len(rows) > 1]
    if not twins:
        return not_applicable(f"None of the {n:,} training battles occurs twice.")
    differ = np.concatenate([_differ(np.array([vote for _, vote in rows])) for rows in twins])
    rows = np.array([row for rows in twins for row, _ in rows])
    conflicting = int((differ > 0).sum())
    share = conflicting / n
    groups = context.battles["group"].to_numpy(dtype=np.str_)[rows]
    rate = paired_bootstrap(differ, np.zeros(len(differ)), groups)
    bound = -math.log(1 - rate.difference) if rate.difference < 1 else math.inf
    interval = ""
    if math.isfinite(rate.low):
        interval = f" (95% interval {100 * rate.low:.0f} to {100 * rate.high:.0f})"
    meaning = (
        "The same texts teach opposite votes: give each battle once, with the votes' majority, or "
        "accept that this much loss stays"
        if share > CONFLICT_SHARE
        else "That is too little to matter"
    )
    return Result(
        "fail" if share > CONFLICT_SHARE else "pass",
        f"{len(rows):,} of {n:,} training battles are one of {len(twins):,} that occur more than "
        f"once, and {conflicting:,} of them have a twin with another vote. Two votes on one battle "
        f"differ in {100 * rate.difference:.0f}% of the pairs{interval}, so no forecast of such "
        f"battles can have a log loss below {bound:.3f}. {meaning}.",
        share,
        CONFLICT_SHARE,
    )


def _same_battle(context: AuditContext) -> list[list[tuple[int, int]]]:
    """Position and vote, in one order of the answers, of the rows of each battle."""
    # Twins share a group, so that only groups of several rows are hashed again.
    several = np.flatnonzero(context.battles["group"].duplicated(keep=False))
    labels = winners(context.labels)
    rows_of: dict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
    for row, texts in zip(several, _texts(context.texts.take(several)), strict=True):
        prompt, a, b = (digest([turns]) for turns in texts)
        vote = int(labels[row])
        battle = (prompt, min(a, b), max(a, b))
        rows_of[battle].append((int(row), vote if a <= b else int(SWAP[vote])))
    return list(rows_of.values())


def _differ(votes: np.ndarray) -> np.ndarray:
    """For each vote, the share of the other votes on its battle that differ; float64."""
    same = np.bincount(votes, minlength=3)[votes]
    return np.asarray((len(votes) - same) / (len(votes) - 1), dtype=np.float64)


@check("C15")
def dead_columns(context: AuditContext) -> Result:
    """Are there columns that are missing everywhere or never vary, or infinite values?

    A few columns are always dead in training (no answer of the file holds a table): that alone
    passes. Figure: number of faults. A fault is a view that is dead, a column with an infinite
    value, or a column that is missing in the whole test file although it is defined for so many
    training prompts that this can hardly be chance (.001). Threshold: 0.
    """
    names, values = context.design.names, context.design.values
    if not values.size:
        return not_applicable("There is no column, or no scored battle.")
    dead = _dead(values)
    views: dict[str, list[bool]] = defaultdict(list)
    for name, is_dead in zip(names, dead, strict=True):
        views[name.partition(".")[0]].append(bool(is_dead))
    faults = [f"view {view} is dead" for view, columns in views.items() if all(columns)]
    infinite = np.isinf(values).any(axis=0)
    if context.test_design is not None and context.test_battles is not None:
        test = context.test_design.values
        lost = _lost(values, test, context.groups, context.test_battles["group"].nunique())
        faults += [f"{names[i]} is missing in test" for i in lost]
        infinite |= np.isinf(test).any(axis=0)
    faults += [f"{names[i]} has infinite values" for i in np.flatnonzero(infinite)]
    count = int(dead.sum())
    listed = _list([names[i] for i in np.flatnonzero(dead)])
    meaning = (
        f"Extract these views again: {_list(faults)}."
        if faults
        else "Trees ignore such columns: nothing needs to be done."
    )
    return Result(
        "fail" if faults else "pass",
        f"{count:,} of {len(names):,} columns are missing everywhere or never vary in "
        f"{len(values):,} scored battles{f' ({listed})' if count else ''}. {meaning}",
        len(faults),
        0.0,
    )


def _dead(values: np.ndarray) -> np.ndarray:
    """Whether a column holds no two different values, NaN being one; bool (d,)."""
    missing = np.isnan(values)
    filled = np.where(missing, np.float32(0), values)
    same = (filled == filled[:1]).all(axis=0)
    return np.asarray((same & ~missing.any(axis=0)) | missing.all(axis=0))


def _lost(train: np.ndarray, test: np.ndarray, groups: np.ndarray, prompts: int) -> list[int]:
    """Positions of columns that all ``prompts`` groups of the test battles lack, against chance."""
    every, index = np.unique(groups, return_inverse=True)
    lost = []
    for i in np.flatnonzero(np.isnan(test).all(axis=0)):
        defined = len(np.unique(index[~np.isnan(train[:, i])])) / len(every)
        if (1 - defined) ** prompts < LOST_BY_CHANCE:
            lost.append(int(i))
    return lost


def _list(items: list[str]) -> str:
    rest = len(items) - NAMED
    return ", ".join(items[:NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
