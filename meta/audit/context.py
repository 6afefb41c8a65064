"""The input of the audit, and the result of a check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from arena.battle_texts import BattleTexts
from arena.feature_table import FeatureTable
from arena.view import ViewKind
from meta.metrics.slices import name_slices
from meta.votes import shares_of, winners

Verdict = Literal["pass", "fail", "not applicable"]

META = "meta"
"""Name of the forecast that is audited."""


@dataclass(frozen=True)
class AuditContext:
    """Everything that a check may look at. Scored rows are unseen by what scored them."""

    battles: pd.DataFrame
    """The valid training battles, canonical table, n rows; its texts are not looked at."""
    texts: BattleTexts
    """The same battles with their texts."""
    labels: np.ndarray
    """Their votes: labels int (n,), 0 A, 1 B, 2 tie, or shares (n, 3), see ``meta.votes``."""
    rows: np.ndarray
    """Positions of the scored battles among them, int (m,)."""
    probabilities: Mapping[str, np.ndarray]
    """Forecasts of the scored battles by name, float64 (m, 3); ``meta`` is the audited one."""
    design: FeatureTable
    """The design matrix of the scored battles, m rows."""
    swap_gap: float
    """Largest |p(x) - unswap(p(swap x))|, see ``meta.metrics.scores.swap_gap``, over the scored
    battles and those whose texts were exchanged, see ``meta.audit.exchange``."""
    test_battles: pd.DataFrame | None = None
    """The valid test battles, where the run has any; its texts are not looked at."""
    test_texts: BattleTexts | None = None
    """The same battles with their texts."""
    test_design: FeatureTable | None = None
    """Their design matrix, with the same columns."""
    one_order: np.ndarray | None = None
    """Forecast of the scored battles in the file's order alone, before averaging: (m, 3)."""
    folds: np.ndarray | None = None
    """Fold of each training battle, int (n,)."""
    kinds: Mapping[str, ViewKind] = field(default_factory=dict)
    """Kinds of the views in the design matrix, by name."""
    source: np.ndarray | None = None
    """Where each training battle comes from, str (n,), if that is known."""

    def __post_init__(self) -> None:
        """Check that the parts are of the same battles; raise ``ValueError`` where not."""
        n, m = len(self.battles), len(self.rows)
        for name, part in (("texts", self.texts), ("labels", self.labels), ("folds", self.folds)):
            if part is not None and len(part) != n:
                raise ValueError(f"{name} of {len(part)}: {n} battles")
        forecasts = dict(self.probabilities)
        if META not in forecasts:
            raise ValueError(f"no forecast is named {META}")
        if self.one_order is not None:
            forecasts["one_order"] = self.one_order
        for name, table in forecasts.items():
            if table.shape != (m, 3) or not np.isfinite(table).all():
                raise ValueError(f"forecast {name} is not finite of shape ({m}, 3)")
        if self.design.ids != self.battles["id"].iloc[self.rows].tolist():
            raise ValueError("the design matrix is not of the scored battles")
        tests = (self.test_battles, self.test_texts, self.test_design)
        if len({part is None for part in tests}) > 1:
            raise ValueError("test battles, their texts and their design matrix belong together")
        if self.test_design is not None and self.test_design.names != self.design.names:
            raise ValueError("the test design matrix has other columns")

    @cached_property
    def scored(self) -> pd.DataFrame:
        """The scored battles, m rows."""
        return self.battles.iloc[self.rows].reset_index(drop=True)

    @cached_property
    def votes(self) -> np.ndarray:
        """Votes of the scored battles: labels int (m,), or shares (m, 3)."""
        return np.asarray(self.labels[self.rows])

    @cached_property
    def shares(self) -> np.ndarray:
        """The same as shares of A, B and a tie, float64 (m, 3)."""
        return shares_of(self.votes)

    @cached_property
    def winners(self) -> np.ndarray:
        """The same as labels, int (m,)."""
        return winners(self.votes)

    @cached_property
    def groups(self) -> np.ndarray:
        """Prompt groups of the scored battles, str (m,)."""
        return self.scored["group"].to_numpy(dtype=np.str_)

    @property
    def lengths(self) -> np.ndarray:
        """Characters of the scored battles' answers A and B, float64 (m, 2)."""
        return np.asarray(self.texts.lengths[self.rows])

    @property
    def meta(self) -> np.ndarray:
        """The audited forecast, float64 (m, 3)."""
        return self.probabilities[META]

    @cached_property
    def slices(self) -> dict[str, np.ndarray]:
        """Slices of the scored battles, see ``meta.metrics.slices.name_slices``; each (m,)."""
        source = None if self.source is None else self.source[self.rows]
        return name_slices(self.texts.take(self.rows), self.votes, source)

    @property
    def vote_columns(self) -> tuple[str, ...]:
        """Beginnings of the columns whose values come from models that saw votes."""
        return tuple(f"{view}." for view, kind in self.kinds.items() if kind.sees_votes)

    def difference(self, *signals: str) -> np.ndarray | None:
        """Sum of the differences A minus B of handcrafted signals, float64 (m,).

        Args:
            signals: names such as ``formatting.headers``, without view and ``.diff``.

        Returns:
            None where the design matrix has none of them. A missing value counts as 0.
        """
        ends = tuple(f".{signal}.diff" for signal in signals)
        columns = [i for i, name in enumerate(self.design.names) if name.endswith(ends)]
        if not columns:
            return None
        values = self.design.values[:, columns].astype(np.float64)
        return np.asarray(np.nan_to_num(values).sum(axis=1))


@dataclass(frozen=True)
class Result:
    """The result of a check."""

    verdict: Verdict
    sentence: str
    """In plain words: what was measured, what it means, what to do."""
    figure: float | None = None
    threshold: float | None = None
    """Of the figure; the check's docstring says how they are compared."""
    interval: tuple[float | None, float | None] = (None, None)
    """Of the figure; 95% unless the sentence says otherwise."""


@dataclass(frozen=True)
class Finding:
    """A check's result under its code: ``dataclasses.asdict`` of it is JSON."""

    code: str
    """C and the check's number, for example C01."""
    name: str
    verdict: Verdict
    figure: float | None
    threshold: float | None
    interval: tuple[float | None, float | None]
    sentence: str


def not_applicable(why: str) -> Result:
    """The result of a check that has nothing to look at."""
    return Result("not applicable", why)
