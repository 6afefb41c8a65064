"""Reasons for each prediction: what each family, and each view, adds to the second stage's scores.

Of boosters these are LightGBM's SHAP values (Lundberg et al. 2020, "From local explanations to
global understanding with explainable AI for trees"), of a forest the changes on the way down its
trees (``meta.stack.forest.Forest.contributions``), weighted as in the pool of both: they add up to
its raw scores. Both orders are averaged as the prediction is, so the reasons of a swapped battle
are the swapped reasons. The two questions are log-odds before calibration:

    side = z_A - z_B                     above 0: rather A
    tie  = z_tie - (z_A + z_B) / 2       above 0: rather a tie
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from arena.feature_table import FeatureTable
from arena.schema import TIE, A, B
from arena.view import KINDS
from meta.stack.lightgbm_model import mean_of_orders
from meta.stack.stacker import Stacker

MIN_CONTRIBUTION = 0.02
"""Log-odds below which a family is not named: half a percentage point in an even battle."""

PLAIN = {
    "arithmetic": "sums that are right or wrong",
    "diction": "choice of words",
    "endings": "how the answers end",
    "formatting": "lists, headers and bold type",
    "language": "language and script",
    "overlap": "what they share with the prompt and each other",
    "position": "where the answers part and which is read first",
    "prompt_type": "the kind of prompt",
    "readability": "readability",
    "refusal": "refusals",
    "repetition": "repetition",
    "request": "doing what was asked for",
    "self_promotion": "self-promotion and flattery",
    "verbosity": "length",
}
"""Families of handcrafted signals in plain words; of other views, their kind's title says it."""


def title_of(family: str) -> str:
    """A family of evidence for people."""
    return KINDS[family].title if family in KINDS else PLAIN.get(family, family)


@dataclass(frozen=True)
class Reasons:
    """Contributions of families, and of views, to the two log-odds of n battles."""

    ids: list[str]
    families: list[str]
    side: np.ndarray
    """float64 (n, families): towards A."""
    tie: np.ndarray
    """float64 (n, families): towards a tie."""
    tie_base: float
    """The tie log-odds where nothing is known; that of the side is 0 by symmetry."""
    views: list[str]
    view_side: np.ndarray
    """The same sum as ``side``, by view: float64 (n, views)."""
    view_tie: np.ndarray
    """The same sum as ``tie``, by view: float64 (n, views)."""

    def frame(self) -> pd.DataFrame:
        """One row a battle: id, contributions, the base, and the words.

        Contributions are ``side.<family>`` and ``tie.<family>``, then the same sums by view in
        ``view.side.<view>`` and ``view.tie.<view>``.
        """
        columns = {
            f"{question}.{name}": values[:, i]
            for question, names, values in (
                ("side", self.families, self.side),
                ("tie", self.families, self.tie),
                ("view.side", self.views, self.view_side),
                ("view.tie", self.views, self.view_tie),
            )
            for i, name in enumerate(names)
        }
        words = [self.words(row) for row in range(len(self.ids))]
        return pd.DataFrame({"id": self.ids, **columns, "tie.base": self.tie_base, "words": words})

    def words(self, row: int, most: int = 3) -> str:
        """The strongest reasons of a row in plain words, ``most`` of them for each question."""
        reasons = []
        for name, values in (("A", self.side[row]), ("a tie", self.tie[row])):
            strongest = np.argsort(-np.abs(values), kind="stable")[:most]
            named = [
                f"{title_of(self.families[i])} {values[i]:+.2f}"
                for i in strongest
                if abs(values[i]) >= MIN_CONTRIBUTION
            ]
            reasons.append(f"for {name}: {', '.join(named) or 'nothing of weight'}")
        return "; ".join(reasons)


def explain(stacker: Stacker, design: FeatureTable) -> Reasons:
    """Contributions of every family and of every view to the predictions of ``design``.

    Args:
        stacker: what predicts; names of its views may hold dots.
        design: its design matrix, n rows, whose columns are named ``<view>.<column>``.

    Returns:
        Reasons whose sums are the raw log-odds: ``side.sum(axis=1)`` and
        ``tie.sum(axis=1) + tie_base``, and by view alike.
    """
    n, d = design.values.shape
    families, views = sorted({c.family for c in design.columns.values()}), sorted(stacker.views)
    f = len(families)
    member = np.zeros((d + 1, f + len(views) + 1))
    for i, (name, column) in enumerate(design.columns.items()):
        view = max((v for v in views if name.startswith(f"{v}.")), key=len)
        member[i, families.index(column.family)] = 1.0
        member[i, f + views.index(view)] = 1.0
    member[d, -1] = 1.0
    total = mean_of_orders(
        stacker.boosters,
        design,
        lambda values: values.reshape(n, 3, d + 1) @ member,
        pred_contrib=True,
    )
    if stacker.forest is not None:
        by_forest = stacker.forest.contributions(design, member[:d, :-1])
        total = stacker.pool.boosters * total + stacker.pool.forest * by_forest
        total[:, TIE, -1] += stacker.pool.tie
    side = total[:, A] - total[:, B]
    tie = total[:, TIE] - (total[:, A] + total[:, B]) / 2
    base = float(tie[0, -1]) if n else 0.0
    return Reasons(
        list(design.ids),
        families,
        side[:, :f],
        tie[:, :f],
        base,
        views,
        side[:, f:-1],
        tie[:, f:-1],
    )
