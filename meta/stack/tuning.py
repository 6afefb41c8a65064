"""Optuna tunes LightGBM by the log loss of inner folds; a study can be resumed.

Studies are kept in the run's own SQLite file, or in a database that several processes share.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import lightgbm as lgb
import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from scipy.special import softmax
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from arena.schema import SEED
from common.errors import Code, UserError
from meta.metrics.scores import log_loss, row_losses
from meta.stack.lightgbm_model import (
    BASELINE,
    FIXED,
    MAX_ROUNDS,
    PATIENCE,
    BothOrders,
    cross_validate,
)
from meta.stack.shared_study import Study
from meta.votes import weights_of

TRIAL_PARAMS = {"learning_rate": 0.1}
"""Trials learn faster than the final model: the same ranking in 40% of the time."""

TRIAL_ROWS = 10_000
"""Of more rows so many, drawn at random, are what trials train on and are scored by; docs/LOG.md
says what that costs."""

SPACE: dict[str, IntDistribution | FloatDistribution] = {
    "num_leaves": IntDistribution(3, 63, log=True),
    "min_data_in_leaf": IntDistribution(10, 300, log=True),
    "feature_fraction": FloatDistribution(0.05, 0.8, log=True),
    "bagging_fraction": FloatDistribution(0.4, 1.0),
    "lambda_l2": FloatDistribution(0.1, 100.0, log=True),
    "lambda_l1": FloatDistribution(1e-3, 10.0, log=True),
}
"""The search space; docs/design/second-stage.md says why."""


def _suggest(trial: optuna.Trial) -> dict[str, float]:
    return {
        name: trial.suggest_int(name, part.low, part.high, log=part.log)
        if isinstance(part, IntDistribution)
        else trial.suggest_float(name, part.low, part.high, log=part.log)
        for name, part in SPACE.items()
    }


def fingerprint(data: BothOrders, folds: np.ndarray) -> str:
    """Hash of everything that a trial's parameters and value depend on; it names the study."""
    columns = [(name, c.parity, c.partner) for name, c in data.view.columns.items()]
    training = (lgb.__version__, FIXED, MAX_ROUNDS, PATIENCE, TRIAL_PARAMS, BASELINE, SPACE, SEED)
    h = hashlib.sha256(repr((columns, training)).encode())
    for array in (data.view.values, data.votes, folds):
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()[:16]


def tune(
    data: BothOrders,
    folds: np.ndarray,
    trials: int,
    storage: Path | URL,
    progress: Callable[[], None] = lambda: None,
) -> list[dict[str, float]]:
    """Parameters that a study of ``trials`` trials tried, the baseline among them, best first.

    A study of the same data resumes. Each trial's sampler is seeded by the trial's number, so an
    interrupted study and an undisturbed one agree. Processes with one database share the trials of
    their common studies, wait for each other's last ones, and return the same parameters. Pruned
    trials are left out.

    Of more rows than ``TRIAL_ROWS`` a part serves the trials.

    Args:
        data: the training rows, and nothing that will be scored.
        folds: int (n,), inner folds.
        trials: how many trials in all; 0 returns the baseline alone.
        storage: SQLite file that keeps the studies and belongs to this process alone, or a
            database that others may use at the same time.
        progress: called once for each finished trial.

    Raises:
        UserError: the file or database cannot be used, or its disk is full.
    """
    if trials <= 0:
        return [dict(BASELINE)]
    if len(folds) > TRIAL_ROWS:
        rows = np.sort(np.random.default_rng(SEED).permutation(len(folds))[:TRIAL_ROWS])
        data, folds = BothOrders(data.view.take(rows), data.votes[rows]), folds[rows]
    try:
        return _tune(data, folds, trials, storage, progress)
    except (StorageInternalError, SQLAlchemyError) as error:
        remedy = (
            "Check that it can be reached" if isinstance(storage, URL) else "Free space on its disk"
        )
        raise UserError(
            Code.TUNING_STORE_UNUSABLE,
            f"{storage} cannot be used ({error.__cause__ or error}). {remedy} and rerun the "
            "command; finished trials are reused.",
        ) from error


def set_aside_damaged(storage: Path) -> None:
    """Rename a file of studies that SQLite finds damaged, and print that."""
    if not storage.exists():
        return
    try:
        with closing(sqlite3.connect(storage)) as connection:
            state = connection.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.OperationalError:
        # It cannot be opened, which is an error only when tuning needs it.
        return
    except sqlite3.DatabaseError as error:
        state = str(error)
    if state != "ok":
        aside = storage.with_name(f"{storage.name}.damaged")
        storage.replace(aside)
        storage.with_name(f"{storage.name}-journal").unlink(missing_ok=True)
        print(
            f"{storage} is damaged ({state.splitlines()[0]}): renamed to {aside.name}; tuning "
            "starts again",
            file=sys.stderr,
        )


def _tune(
    data: BothOrders,
    folds: np.ndarray,
    trials: int,
    storage: Path | URL,
    progress: Callable[[], None],
) -> list[dict[str, float]]:
    study = Study(storage, fingerprint(data, folds), BASELINE)
    weights = weights_of(data.votes)

    def objective(trial: optuna.Trial) -> float:
        scored = np.zeros(len(data.votes), dtype=bool)
        losses = np.zeros(len(data.votes))

        def after_fold(done: int, rows: np.ndarray, raw: np.ndarray) -> None:
            scored[rows] = True
            losses[rows] = row_losses(softmax(raw, axis=1), data.votes[rows])
            trial.report(float(losses[scored].sum() / weights[scored].sum()), done)
            if trial.should_prune():
                raise optuna.TrialPruned

        params = {**_suggest(trial), **TRIAL_PARAMS}
        raw = cross_validate(data, folds, [params], after_fold).raw
        return log_loss(softmax(raw, axis=1), data.votes)

    return [{**BASELINE, **params} for params in study.run(objective, trials, progress)]
