"""A linear model of the score difference, with ties after Davidson.

Davidson 1970, "On extending the Bradley-Terry model to accommodate ties in paired comparison
experiments": with strengths of log ratio s,

    P(A) : P(B) : P(tie) = exp(s / 2) : exp(-s / 2) : nu

so that ties are most likely where the answers are equally good. Here s is linear in the
antisymmetric columns of the other views and log nu in the symmetric ones (and in the size of the
antisymmetric ones). A linear model extrapolates where trees cannot, and errs in other places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import minimize

from arena.battle_texts import BattleTexts
from arena.feature_table import Column, FeatureTable, join
from arena.schema import TIE, A, B
from common.errors import Code, UserError
from meta.base_models import BaseModel, Model, learned_kind, register
from meta.votes import shares_of, weights_of

PENALTY = 100.0
"""Half of it times the squared weights of unit-scaled columns, in nats on all rows: a normal prior
with standard deviation .1 on each weight; docs/LOG.md."""

FARTHEST = 5.0
"""Standard deviations beyond which a column says no more: answers of a megabyte exist."""

ROUNDS = 500


@register
@dataclass(frozen=True)
class Davidson(BaseModel):
    """Davidson's model on every view that never saw a label.

    A model has ``anti.scale`` (d_anti,), ``sym.mean``, ``sym.scale`` (d_sym + d_anti,), the weights
    ``side`` and ``tie`` on the scaled columns, and ``bias`` (1,); all float32.
    """

    kind = learned_kind("davidson", "a linear model of all signals", "combined", "extract.py")
    of_views = True
    tables: Mapping[str, FeatureTable]

    @cached_property
    def design(self) -> FeatureTable:
        """All tables side by side, n rows."""
        return join(self.tables)

    @property
    def ids(self) -> list[str]:
        """Battle ids, n."""
        return self.design.ids

    @classmethod
    def of(cls, battles: BattleTexts, tables: Mapping[str, FeatureTable]) -> Davidson | None:
        """The model of all tables."""
        return cls(tables) if tables else None

    def without(self, view: str) -> Davidson | None:
        """The other tables."""
        others = {name: table for name, table in self.tables.items() if name != view}
        return Davidson(others) if others else None

    @property
    def columns(self) -> dict[str, Column]:
        """Score difference, its size, and the log-odds of a tie against a decision."""
        return {
            "side": Column("anti", self.kind.name),
            "absside": Column("sym", self.kind.name),
            "tie": Column("sym", self.kind.name),
        }

    def fit(self, rows: np.ndarray, votes: np.ndarray) -> Model:
        """Fit by penalised maximum likelihood, a convex problem."""
        anti, sym = self._parts(rows)
        shares, weights = shares_of(votes), weights_of(votes)
        mean = _mean(sym, weights)
        model = {
            "anti.scale": _scale(np.sqrt(_mean(anti**2, weights))),
            "sym.mean": mean,
            "sym.scale": _scale(np.sqrt(_mean((sym - mean) ** 2, weights))),
        }
        x, z = _scaled(model, anti, sym)
        toward, tied = shares[:, A] - shares[:, B], shares[:, TIE]
        k = x.shape[1]

        def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
            side, log_nu = x @ w[:k], z @ w[k:-1] + w[-1]
            raw = np.stack([side / 2, -side / 2, log_nu], axis=1)
            top = raw.max(axis=1, keepdims=True)
            log_p = raw - top - np.log(np.exp(raw - top).sum(axis=1, keepdims=True))
            p = np.exp(log_p)
            by_side = (weights * (p[:, A] - p[:, B]) - toward) / 2
            by_nu = weights * p[:, TIE] - tied
            slope = np.concatenate([x.T @ by_side, z.T @ by_nu, [by_nu.sum()]])
            slope[:-1] += PENALTY * w[:-1]
            losses = (shares * log_p).sum(axis=1)
            found = -losses.sum() + PENALTY / 2 * (w[:-1] ** 2).sum()
            return float(found), slope

        start = np.zeros(k + z.shape[1] + 1)
        w = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ROUNDS}).x
        model |= {"side": w[:k], "tie": w[k:-1], "bias": w[-1:]}
        return {name: np.asarray(value, dtype=np.float32) for name, value in model.items()}

    def values(self, model: Model, rows: np.ndarray) -> np.ndarray:
        """Score difference and tie log-odds of these battles."""
        anti, sym = self._parts(rows)
        if (len(model["side"]), len(model["tie"])) != (anti.shape[1], sym.shape[1]):
            raise UserError(
                Code.VIEW_DIFFERS,
                "These battles have other views than the model was trained with. Rerun extract.py "
                "(and finetune.py, verdict.py where they were used) on them.",
            )
        x, z = _scaled(model, anti, sym)
        side, log_nu = x @ model["side"], z @ model["tie"] + model["bias"][0]
        tie = log_nu - np.logaddexp(side / 2, -side / 2)
        return np.stack([side, np.abs(side), tie], axis=1).astype(np.float32)

    def take(self, rows: np.ndarray) -> Davidson:
        """The tables of these battles."""
        return Davidson({name: table.take(rows) for name, table in self.tables.items()})

    def _parts(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Antisymmetric and symmetric columns of these rows, float64; a pair gives both."""
        values, swapped = self.design.values[rows], self.design.swapped_values()[rows]
        parity = np.array([c.parity for c in self.design.columns.values()])
        pair = parity == "paired"
        halves = (values[:, pair] - swapped[:, pair]) / 2, (values[:, pair] + swapped[:, pair]) / 2
        anti = np.concatenate([values[:, parity == "anti"], halves[0]], axis=1).astype(np.float64)
        sym = np.concatenate([values[:, parity == "sym"], halves[1]], axis=1).astype(np.float64)
        return anti, np.concatenate([sym, np.abs(anti)], axis=1)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of each column by weights (n,) over what is not missing, 0 where all is."""
    missing = np.isnan(values)
    total = np.where(missing, 0.0, weights[:, None]).sum(axis=0)
    weighted = np.where(missing, 0.0, values) * weights[:, None]
    mean: np.ndarray = weighted.sum(axis=0) / np.where(total > 0, total, 1.0)
    return mean


def _scale(scale: np.ndarray) -> np.ndarray:
    """A scale that can be divided by: columns that never vary keep 1."""
    return np.where(scale > 1e-8, scale, 1.0)


def _scaled(model: Model, anti: np.ndarray, sym: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit-scaled columns, the missing at the mean, none farther than ``FARTHEST``."""
    x, z = anti / model["anti.scale"], (sym - model["sym.mean"]) / model["sym.scale"]
    x, z = (np.clip(np.nan_to_num(v, nan=0.0), -FARTHEST, FARTHEST) for v in (x, z))
    return x, z
