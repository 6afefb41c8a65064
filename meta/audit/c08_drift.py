"""Drift: are the test battles like the training battles?

A small LightGBM model, cross-fitted by group, tells scored training battles from test battles. The
figure is its AUC: .5 where they are alike. Views whose values come from models that saw votes are
left out: their training values rest on fewer battles than their test values, which is no drift of
the data. Threshold: AUC .64, which for two normal distributions is a shift of half a standard
deviation and a population stability index of .25, the value from which credit scoring calls for
action (Siddiqi 2006, Credit Risk Scorecards). Fails where the AUC is above and its 95% interval
lies above .5.
"""

from __future__ import annotations

import lightgbm as lgb
import numpy as np

from arena.schema import SEED
from meta.audit.context import AuditContext, Result, not_applicable
from meta.audit.statistics import auc_with_error, folds_of, ks_by_column, subsample
from meta.base_models import BASE_MODELS
from meta.stack.dataset import LOGITS

THRESHOLD = 0.64
FOLDS, ROUNDS = 3, 60
LIMIT = 3_000
"""Rows of either kind that the model is trained and scored on."""
FEWEST = 50
"""Rows of either kind under which no drift could be told from chance."""
PARAMS = {
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


def check(case: AuditContext) -> Result:
    """Train the model that tells the files apart, and name the columns that drift most."""
    if case.test_battles is None or case.test_design is None:
        return not_applicable("The run has no test battles.")
    names = np.array(case.design.names)
    kept = np.array([not _saw_votes(name.partition(".")[0]) for name in names], dtype=bool)
    train, test = subsample(len(case.rows), LIMIT), subsample(len(case.test_battles), LIMIT)
    if not kept.any():
        return not_applicable("Every view comes from models that saw votes.")
    if min(len(train), len(test)) < FEWEST:
        return not_applicable(
            f"{len(train):,} training and {len(test):,} test battles are too few: drift needs "
            f"{FEWEST} of either."
        )
    one, two = case.design.values[train][:, kept], case.test_design.values[test][:, kept]
    groups = np.concatenate(
        [case.groups[train], case.test_battles["group"].to_numpy(dtype=np.str_)[test]]
    )
    is_test = np.repeat([False, True], [len(train), len(test)])
    scores = _cross_fitted(np.concatenate([one, two]), is_test, groups)
    if scores is None:
        return not_applicable("Too few prompt groups to tell drift from memory.")
    auc, error = auc_with_error(scores, is_test, groups)
    low, high = auc - 1.96 * error, auc + 1.96 * error
    distances = ks_by_column(one, two)
    top = np.argsort(-distances, kind="stable")[:3]
    columns = ", ".join(f"{names[kept][i]} ({distances[i]:.2f})" for i in top)
    fails = auc > THRESHOLD and low > 0.5
    meaning = (
        "The figures of this run hold for battles like the training ones: score on votes of the "
        "new kind before you rely on them"
        if fails
        else "They are alike as far as it matters"
    )
    return Result(
        "fail" if fails else "pass",
        f"A model tells test from training battles with an AUC of {auc:.3f} (95% interval "
        f"{low:.3f} to {high:.3f}; {len(train):,} and {len(test):,} battles). {meaning}. Columns "
        f"that differ most, by Kolmogorov-Smirnov distance: {columns}.",
        auc,
        THRESHOLD,
        (low, high),
    )


def _saw_votes(view: str) -> bool:
    """Whether the view's values come from models that saw votes."""
    return view in BASE_MODELS or LOGITS in view


def _cross_fitted(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray | None:
    """Out-of-fold scores (n,) of y, None where a fold's training rows are of one kind."""
    folds = folds_of(groups, FOLDS)
    scores = np.empty(len(y))
    for fold in np.unique(folds):
        held = folds == fold
        if len(np.unique(y[~held])) < 2:
            return None
        data = lgb.Dataset(x[~held], y[~held].astype(np.float64))
        scores[held] = lgb.train(PARAMS, data, ROUNDS).predict(x[held], raw_score=True)
    return scores
