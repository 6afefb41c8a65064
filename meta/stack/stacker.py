"""One second stage: boosters and a forest on a set of views, and their calibrator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np
from sqlalchemy.engine import URL

from arena.feature_table import FeatureTable, join
from common.errors import Code, UserError
from common.steps import Step
from meta.calibration import select_calibrator
from meta.calibrators import Calibrator, Identity
from meta.stack.forest import Forest, grow
from meta.stack.lightgbm_model import (
    BothOrders,
    cross_validate,
    raw_scores,
    raw_scores_as_given,
    train_on_all,
)
from meta.stack.pool import Pool
from meta.stack.tuning import tune
from meta.votes import chance_of_absent


@dataclass(frozen=True)
class Stacker:
    """A trained second stage."""

    views: tuple[str, ...]
    columns: tuple[str, ...]
    boosters: list[lgb.Booster]
    params: list[dict[str, float]]
    """LightGBM's, of each booster."""
    forest: Forest | None
    pool: Pool
    """Of boosters and forest; of no use without one."""
    calibrator: Calibrator
    calibration: dict[str, float]
    """Cross-fitted log loss of each calibration method on the training rows."""
    rows: int
    """Battles that it was trained on."""
    absent: tuple[int, ...] = ()
    """Classes that no vote of the training file is for, see ``meta.votes.absent_classes``."""

    def design(self, views: Mapping[str, FeatureTable]) -> FeatureTable:
        """The design matrix: its views side by side.

        Raises:
            UserError: a view or a column that the model was trained with is missing.
        """
        for name in self.views:
            if name not in views:
                raise UserError(
                    Code.VIEW_MISSING,
                    f"The model was trained with the view {name}, which these battles lack. "
                    "Rerun extract.py on them, with the run's own backbone.",
                )
        design = join({name: views[name] for name in self.views})
        if tuple(design.names) != self.columns:
            raise UserError(
                Code.VIEW_DIFFERS,
                f"The columns of the views {', '.join(self.views)} are not those of the model. "
                "Rerun extract.py and train_meta.py.",
            )
        return design

    def raw(self, design: FeatureTable) -> np.ndarray:
        """Raw scores (n, 3), both orders averaged, before calibration."""
        scores = raw_scores(self.boosters, design)
        if self.forest is None:
            return scores
        return self.pool(scores, self.forest.log_probabilities(design))

    def uncalibrated(self, design: FeatureTable) -> np.ndarray:
        """Probabilities (n, 3) before calibration."""
        return Identity()(self.raw(design))

    def one_order(self, design: FeatureTable) -> np.ndarray:
        """Calibrated probabilities (n, 3) from the given order alone, for the audit."""
        scores = raw_scores_as_given(self.boosters, design)
        if self.forest is not None:
            scores = self.pool(scores, self.forest.log_probabilities_as_given(design))
        return self.calibrator(scores)

    def predict(self, design: FeatureTable) -> np.ndarray:
        """Calibrated probabilities (n, 3).

        Boosters give a class that they never saw 1e-15, which costs 34 nats where it occurs after
        all. Here every class keeps at least 1 / (rows + 3), Laplace's rule of succession for one
        that did not occur, before all three are divided by their sum; and one that no vote of the
        training was for ``meta.votes.chance_of_absent``, since there are votes without ties.
        """
        lowest = np.full(3, 1 / (self.rows + 3))
        lowest[list(self.absent)] = chance_of_absent(self.rows)
        found = np.maximum(self.calibrator(self.raw(design)), lowest)
        probabilities: np.ndarray = found / found.sum(axis=1, keepdims=True)
        return probabilities


def fit_stacker(
    views: Mapping[str, FeatureTable],
    votes: np.ndarray,
    folds: np.ndarray,
    groups: np.ndarray,
    *,
    trials: int,
    bags: int,
    with_forest: bool = True,
    storage: Path | URL,
    absent: tuple[int, ...] = (),
    progress: Callable[[], None] = lambda: None,
    step: Step = nullcontext,
) -> Stacker:
    """Tune, train and calibrate on rows that will not be scored.

    Args:
        views: the training rows' views, supervised ones out of fold.
        votes: labels (n,) or weighted shares (n, 3), see ``meta.votes``. Weights count in training,
            early stopping, tuning and calibration.
        folds: int (n,), inner folds; they serve early stopping, tuning and calibration.
        groups: prompt group of each row (n,), the unit of standard errors.
        trials: Optuna trials; 0 keeps the baseline parameters.
        bags: boosters, averaged: each has a seed of its own and the parameters of one of the best
            trials, since the very best of few rows is best by luck.
        with_forest: whether a forest is grown, and pooled with the boosters.
        storage: SQLite file of the study, or a database for several processes.
        absent: classes that no vote of the whole training file is for.
        progress: called for each of :func:`fits_of`.
        step: given the name of a step, the context in which it is done.
    """
    with step("bins"):
        design = join(views)
        data = BothOrders(design, votes)
    with step("tuning"):
        tried = tune(data, folds, trials, storage, progress)
    params = [tried[member % len(tried)] for member in range(bags)]
    with step("boosters"):
        found = cross_validate(data, folds, params, lambda *_: progress())
    raw, forest, pool = found.raw, None, Pool()
    if with_forest:
        with step("forest"):
            forest, by_forest = grow(design, votes, folds, progress)
        pool = Pool.fit(raw, by_forest, votes)
        raw = pool(raw, by_forest)
    with step("calibration"):
        calibrator, losses = select_calibrator(raw, votes, folds, groups)
    with step("boosters on all rows"):
        boosters = train_on_all(data, params, found.rounds)
    progress()
    return Stacker(
        tuple(views),
        tuple(design.names),
        boosters,
        params,
        forest,
        pool,
        calibrator,
        losses,
        len(votes),
        absent,
    )


def fits_of(folds: int, trials: int, with_forest: bool) -> int:
    """How often :func:`fit_stacker` reports progress.

    Trials, the boosters of each fold, those on all rows, and the forest of each fold.
    """
    return trials + folds + 1 + folds * with_forest


def sets_of_views(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The stackers that are trained: each view alone, and ``meta`` of all of them."""
    return {**{name: (name,) for name in names}, "meta": tuple(names)}
