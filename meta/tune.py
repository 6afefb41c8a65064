"""Optuna chooses LightGBM's parameters by the log loss of inner folds; a study can be resumed."""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError
from scipy.special import softmax
from sqlalchemy.exc import SQLAlchemyError

from arena.battle import SEED
from arena.errors import UserError
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

    Raises:
        UserError: the file cannot be used, or its disk is full.
    """
    if trials <= 0:
        return dict(BASELINE)
    try:
        return _tune(data, folds, trials, storage, progress)
    except (StorageInternalError, SQLAlchemyError) as error:
        raise UserError(
            f"{storage} cannot be used ({error.__cause__ or error}): make room on its disk and "
            "give the same command again, which goes on from the finished trials"
        ) from error


def set_aside_damaged(storage: Path) -> None:
    """Move a file of studies that SQLite finds damaged out of the way, and say so."""
    if not storage.exists():
        return
    try:
        with closing(sqlite3.connect(storage)) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.OperationalError:
        # It cannot be opened now, which is said where it is needed.
        return
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        aside = storage.with_name(f"{storage.name}.damaged")
        storage.replace(aside)
        storage.with_name(f"{storage.name}-journal").unlink(missing_ok=True)
        print(
            f"{storage} is damaged ({found.splitlines()[0]}): moved to {aside.name}, tuning begins "
            "anew",
            file=sys.stderr,
        )


def _tune(
    data: BothOrders,
    folds: np.ndarray,
    trials: int,
    storage: Path,
    progress: Callable[[], None],
) -> dict[str, float]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{storage}",
        study_name=fingerprint(data, folds),
        direction="minimize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    finished = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    # A trial that was killed is not done, the baseline's among them.
    if not study.get_trials(states=(*finished, optuna.trial.TrialState.WAITING)):
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

    for number in range(len(study.get_trials(deepcopy=False, states=finished)), trials):
        study.sampler = optuna.samplers.TPESampler(seed=SEED + number, n_startup_trials=8)
        try:
            study.optimize(objective, n_trials=1)
        except UnboundLocalError as error:
            # Optuna 5.0 trips over an interrupt that comes while it writes down a trial.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        progress()
    return {**BASELINE, **study.best_params}
