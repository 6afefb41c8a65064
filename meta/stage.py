"""The second stage of a run: honest figures by nested cross-validation, then the final model.

Scored rows are unseen by everything: for each outer fold, learned views, early stopping, tuning and
calibration work on the other folds only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from arena.errors import UserError
from arena.groups import fold_of
from arena.run import Run
from arena.views import View
from meta.evidence import Evidence, labels_of
from meta.fusion import Fusion, fit_fusion, sets_of_views
from meta.learned import CrossFitted, Model
from meta.nulls import Nulls
from meta.scores import swap_gap

MANY_ROWS = 20_000
"""From here on one outer fold tells enough, and nesting all of them would cost a day."""


@dataclass(frozen=True)
class Scored:
    """Predictions of rows that nothing had seen."""

    rows: np.ndarray
    """Positions of the scored rows, (m,)."""
    probabilities: dict[str, np.ndarray]
    """By name (nulls, each view alone, ``meta_uncalibrated``, ``meta``): float64 (m, 3)."""
    swap_gap: float
    design: View
    """What ``meta`` saw of the scored rows."""


@dataclass(frozen=True)
class SecondStage:
    """Everything that ``submit.py`` needs."""

    fusions: dict[str, Fusion]
    learned: dict[str, list[Model]]
    """Of each view that learns, a model a fold."""
    nulls: Nulls

    @property
    def views(self) -> tuple[str, ...]:
        """The views that it was trained on."""
        return self.fusions["meta"].views


@dataclass(frozen=True)
class Settings:
    """How much work the second stage does."""

    folds: int = 5
    trials: int = 20
    bags: int = 3


def folds_for(evidence: Evidence, folds: int) -> np.ndarray:
    """Fold of each battle, int (n,), relabelled to those that occur.

    Where the battles are what one fold of a fine-tuning left out they share their fold, and a hash
    of the group's name parts them.

    Raises:
        UserError: the battles have too few prompt groups to cross-validate.
    """
    groups = evidence.battles["group"]
    found = fold_of(groups, folds)
    if len(np.unique(found)) == 1:
        found = fold_of((sha256(g.encode()).hexdigest() for g in groups), folds)
    if len(np.unique(found)) < 3:
        raise UserError(
            f"{len(evidence.battles)} sound training battles of "
            f"{evidence.battles['group'].nunique()} prompts are too few to cross-validate: "
            "give at least some dozens with different prompts"
        )
    return np.asarray(np.unique(found, return_inverse=True)[1])


def outer_folds(folds: np.ndarray) -> list[int]:
    """Outer folds to score: all, or the first alone where rows are many."""
    names = [int(f) for f in np.unique(folds)]
    return names[:1] if len(folds) > MANY_ROWS else names


def nested(
    evidence: Evidence,
    folds: np.ndarray,
    fits: Mapping[str, CrossFitted],
    settings: Settings,
    run: Run,
    progress: Callable[[], None],
    sets: Mapping[str, Sequence[str]] | None = None,
) -> Scored:
    """Score every row of the outer folds by models that saw nothing of its fold.

    Args:
        evidence: the training battles and their views.
        folds: int (n,).
        fits: ``evidence.fits(folds)``.
        settings: how much work; only ``meta`` is tuned and bagged.
        run: keeps the studies.
        progress: called for each trial and each fusion.
        sets: views of each fusion by its name, ``meta`` among them; by default each view alone and
            ``meta`` of all.
    """
    sets = sets or sets_of_views(evidence.names)
    labels, groups = labels_of(evidence.battles), evidence.battles["group"].to_numpy()
    outer = outer_folds(folds)
    scored = np.flatnonzero(np.isin(folds, outer))
    probabilities: dict[str, np.ndarray] = {}
    gap = 0.0
    designs: list[tuple[np.ndarray, View]] = []
    place = np.full(len(labels), -1)
    place[scored] = np.arange(len(scored))

    def put(name: str, rows: np.ndarray, found: np.ndarray) -> None:
        table = probabilities.setdefault(name, np.full((len(scored), 3), np.nan))
        table[place[rows]] = found

    for k in outer:
        train, held = np.flatnonzero(folds != k), np.flatnonzero(folds == k)
        nulls = Nulls.fit(evidence.battles.iloc[train], labels[train])
        for name, table in nulls.predict(evidence.battles.iloc[held]).items():
            put(name, held, table)
        views = evidence.crossfitted(fits, k)
        for name, members in sets.items():
            fusion = fit_fusion(
                {v: views[v].take(train) for v in members},
                labels[train],
                folds[train],
                groups[train],
                trials=settings.trials if name == "meta" else 0,
                bags=settings.bags if name == "meta" else 1,
                storage=run.study,
                progress=progress,
            )
            design = fusion.design({v: views[v].take(held) for v in members})
            put(name, held, fusion.predict(design))
            if name == "meta":
                put("meta_uncalibrated", held, fusion.uncalibrated(design))
                gap = max(gap, swap_gap(fusion.predict(design), fusion.predict(design.swap())))
                designs.append((held, design))
    order = np.argsort(np.concatenate([held for held, _ in designs]))
    values = np.concatenate([design.values for _, design in designs])[order]
    ids = evidence.battles["id"].to_numpy()[scored]
    return Scored(scored, probabilities, gap, View(ids.tolist(), values, designs[0][1].columns))


def final(
    evidence: Evidence,
    folds: np.ndarray,
    fits: Mapping[str, CrossFitted],
    settings: Settings,
    run: Run,
    progress: Callable[[], None],
) -> SecondStage:
    """Train on all rows, for rows that are not here yet."""
    labels = labels_of(evidence.battles)
    views = evidence.crossfitted(fits, None)
    fusions = {
        name: fit_fusion(
            {v: views[v] for v in members},
            labels,
            folds,
            evidence.battles["group"].to_numpy(),
            trials=settings.trials if name == "meta" else 0,
            bags=settings.bags if name == "meta" else 1,
            storage=run.study,
            progress=progress,
        )
        for name, members in sets_of_views(evidence.names).items()
    }
    models = {name: fit.models() for name, fit in fits.items()}
    return SecondStage(fusions, models, Nulls.fit(evidence.battles, labels))
