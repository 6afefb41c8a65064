"""One order of every battle, and the second one only where it can change the verdict.

Which order is read first is said by the two sequences' hashes: in half of the battles A stands
first, and a swapped battle is read by the very same sequence, so its numbers are the swapped ones
to the bit. Where the second order is not read, its log-odds are those that the first one makes
expected, by a linear fit to training battles that were read in both. No vote is seen.

The fit and the margin below which a call is close are kept with the view: what a battle's numbers
are depends on no other battle that is read with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from arena.predictions_file import from_log_odds
from common.errors import Code, UserError
from embeddings.both_orders import log_odds, mean_odds
from embeddings.prompts.pairs import Pairs, SomeOrders

BOTH, BUDGET = "both", "budget"
"""How battles are read: in both orders, or the second one for the closest calls alone."""

SHARE = 0.3
"""Share of the training battles whose calls count as close."""

FITTED = 256
"""Training battles that are read in both orders in any case; those of the smallest hashes."""

Read = Callable[[Sequence[SomeOrders]], list[np.ndarray]]
"""Gives of each table the logits of its sequences, (m, 3), each in its own class order."""


@dataclass(frozen=True)
class SecondOrder:
    """What is known of the order that is not read.

    Attributes:
        weights: of 1, side and tie of the first order, for its side and its tie in the second; (2,
            3). Each order's side is of its own first answer.
        margin: a call is close where its two likeliest classes are no further apart, in
            probability.
    """

    weights: tuple[tuple[float, ...], ...]
    margin: float

    @classmethod
    def fit(cls, first: np.ndarray, second: np.ndarray, every: np.ndarray, share: float) -> Self:
        """Learn it of battles that were read.

        Args:
            first: logits (n, 3) of one order.
            second: those of the other order, (n, 3).
            every: of one order of all training battles, (m, 3).
            share: of them whose calls shall count as close.

        Raises:
            UserError: no battle has finite logits in both orders.
        """
        finite = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
        if not finite.any():
            raise UserError(
                Code.NUMBERS_NOT_FINITE,
                "No training battle has finite numbers in both orders, so nothing says what the "
                f"second order would be. Take --orders {BOTH}.",
            )
        # Either order may be the one that is read.
        one = np.concatenate([first[finite], second[finite]])
        other = np.concatenate([second[finite], first[finite]])
        weights = np.linalg.lstsq(_design(one), np.stack(log_odds(other), axis=1), rcond=None)[0]
        fitted = cls(tuple(tuple(map(float, row)) for row in weights.T), 1.0)
        margins = fitted.margins(every)
        return cls(fitted.weights, float(np.quantile(margins[np.isfinite(margins)], share)))

    @classmethod
    def of(cls, entry: Mapping[str, Any] | None) -> Self | None:
        """What ``record`` gave; ``None`` of nothing."""
        return cls(tuple(map(tuple, entry["weights"])), entry["margin"]) if entry else None

    def record(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        entry = asdict(self)
        return {**entry, "weights": [list(row) for row in self.weights]}

    def expected(self, first: np.ndarray) -> np.ndarray:
        """Logits of the second order, float32 (n, 3), of those of the first."""
        side, tie = np.array(self.weights) @ _design(first).T
        return np.stack([side / 2, -side / 2, tie], axis=1).astype(np.float32)

    def margins(self, first: np.ndarray) -> np.ndarray:
        """How far apart the two likeliest classes are expected to be, (n,); NaN where unknown."""
        side, tie = mean_odds(first, self.expected(first))
        ordered = np.sort(from_log_odds(side, tie), axis=1)
        return np.asarray(ordered[:, -1] - ordered[:, -2])


@dataclass(frozen=True)
class Reading:
    """Battles that were read by a budget.

    Attributes:
        forward: logits of A before B, float32 (n, 3); expected ones where that order was not read.
        swapped: those of B before A, in its own class order.
        both: whether both orders were read, bool (n,).
        first: logits of the order that was read of every battle, (n, 3).
    """

    forward: np.ndarray
    swapped: np.ndarray
    both: np.ndarray
    first: np.ndarray

    @property
    def logits(self) -> np.ndarray:
        """``forward``, then ``swapped``; (2n, 3)."""
        return np.concatenate([self.forward, self.swapped])


def fit_second_order(read: Read, train: Pairs, share: float) -> SecondOrder:
    """Read one order of the training battles, the other one of some, and learn from these.

    Args:
        read: reads what was not read before.
        train: packed training battles.
        share: of them whose calls shall count as close.

    Raises:
        UserError: nothing finite was read.
    """
    begins = _forward_first(train)
    keys = [min(a.key, b.key) for a, b in zip(train.forward, train.swapped, strict=True)]
    rows = np.array(sorted(range(len(keys)), key=keys.__getitem__)[:FITTED], dtype=np.int64)
    every, second = read([_order(train, begins), _order(train.take(rows), ~begins[rows])])
    return SecondOrder.fit(every[rows], second, every, share)


def read_by_budget(read: Read, tables: Sequence[Pairs], second: SecondOrder) -> list[Reading]:
    """Read one order of every battle, and the second one of the closest calls.

    Args:
        read: reads what was not read before.
        tables: packed battles.
        second: says which calls are close, and what is expected of the others.
    """
    begins = [_forward_first(table) for table in tables]
    firsts = read([_order(t, begin) for t, begin in zip(tables, begins, strict=True)])
    close = [np.flatnonzero(second.margins(first) <= second.margin) for first in firsts]
    others = read([_order(t.take(c), ~b[c]) for t, b, c in zip(tables, begins, close, strict=True)])
    readings = []
    for table, begin, first, rows, other in zip(tables, begins, firsts, close, others, strict=True):
        logits, both = second.expected(first), np.zeros(len(first), dtype=bool)
        logits[rows], both[rows] = other, True
        # Equal answers make one sequence: both orders were read.
        pairs = zip(table.forward, table.swapped, strict=True)
        equal = np.array([a.key == b.key for a, b in pairs], dtype=bool)
        logits[equal], both[equal] = first[equal], True
        forward = np.where(begin[:, None], first, logits)
        readings.append(Reading(forward, np.where(begin[:, None], logits, first), both, first))
    return readings


def _forward_first(pairs: Pairs) -> np.ndarray:
    """Whether A before B is read first, bool (n,)."""
    orders = zip(pairs.forward, pairs.swapped, strict=True)
    return np.array([a.key <= b.key for a, b in orders], dtype=bool)


def _order(pairs: Pairs, forward: np.ndarray) -> SomeOrders:
    """One order of each battle: A before B where ``forward``."""
    orders = zip(forward, pairs.forward, pairs.swapped, strict=True)
    return SomeOrders(pairs.ids, [a if begins else b for begins, a, b in orders])


def _design(logits: np.ndarray) -> np.ndarray:
    """1, side and tie, float64 (n, 3)."""
    side, tie = log_odds(logits.astype(np.float64))
    return np.stack([np.ones_like(side), side, tie], axis=1)
