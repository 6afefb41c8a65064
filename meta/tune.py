"""Optuna chooses LightGBM's parameters by the log loss of inner folds; a study can be resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
from scipy.special import softmax

from arena.battle import SEED
from meta.gbm import BASELINE, BothOrders, cross_validate
from meta.scores import log_loss, row_losses

QUICK = {"learning_rate": 0.1}
"""Trials learn faster than the model that is kept: the same ranking at 40% of the time."""


def _suggest(trial: optuna.Trial) -> dict[str, float]:
    """The search space; docs/DECISIONS.md argues it."""
    return {
        "num_leaves": trial.suggest_int("num_leaves", 3, 63, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 10, 300, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.05, 0.8, log=True),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.4, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
        "lambda_l1": trial.suggest_float("lambda_l1", 1e-3, 10.0, log=True),
    }


def fingerprint(data: BothOrders, folds: np.ndarray) -> str:
    """Hash of everything that a trial's value depends on; it names the study."""
    h = hashlib.sha256(repr(data.view.names).encode())
    for array in (data.view.values, data.labels, folds):
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()[:16]


def tune(
    data: BothOrders,
    folds: np.ndarray,
    trials: int,
    storage: Path,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Return the best parameters of a study of ``trials`` trials, the baseline among them.

    A study of the same data goes on where it stopped. Each trial's sampler is seeded by the
    trial's number, so an interrupted study and an undisturbed one agree.

    Args:
        data: the training rows, and nothing that will be scored.
        folds: int (n,), inner folds.
        trials: how many trials in all; 0 returns the baseline.
        storage: SQLite file that keeps the studies.
        progress: called once for each finished trial.
    """
    if trials <= 0:
        return dict(BASELINE)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{storage}",
        study_name=fingerprint(data, folds),
        direction="minimize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    if not study.trials:
        study.enqueue_trial(BASELINE)

    def objective(trial: optuna.Trial) -> float:
        seen = np.zeros(len(data.labels), dtype=bool)
        losses = np.zeros(len(data.labels))

        def after_fold(done: int, held: np.ndarray, raw: np.ndarray) -> None:
            seen[held] = True
            losses[held] = row_losses(softmax(raw, axis=1), data.labels[held])
            trial.report(float(losses[seen].mean()), done)
            if trial.should_prune():
                raise optuna.TrialPruned

        found = cross_validate(data, folds, {**_suggest(trial), **QUICK}, after_fold=after_fold)
        return log_loss(softmax(found.raw, axis=1), data.labels)

    finished = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    for number in range(len(study.get_trials(deepcopy=False, states=finished)), trials):
        study.sampler = optuna.samplers.TPESampler(seed=SEED + number, n_startup_trials=8)
        study.optimize(objective, n_trials=1)
        progress()
    return {**BASELINE, **study.best_params}
