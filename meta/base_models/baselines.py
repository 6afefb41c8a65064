"""What any evidence has to beat: uniform, the class prior, and the length of the answers alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from scipy.special import logit

from arena.schema import TIE
from meta.base_models.symmetric_logistic import SymmetricLogistic
from meta.votes import chance_of_absent, shares_of

NULLS = ("uniform", "prior", "length")


def prior(votes: np.ndarray) -> np.ndarray:
    """Class shares of the votes with one pseudo-count a class; float64 (3,)."""
    counts = shares_of(votes).sum(axis=0) + 1.0
    shares: np.ndarray = counts / counts.sum()
    return shares


def length_columns(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length of the answers in characters, as antisymmetric (n, 2) and symmetric (n, 2) columns.

    Antisymmetric: (a - b) / (a + b) and log((1 + a) / (1 + b)). Symmetric: the absolute value of
    the first, and log(1 + a + b).

    Args:
        lengths: of ``arena.battle_texts.answer_lengths``, (n, 2).
    """
    a, b = np.ascontiguousarray(lengths.T)
    share = (a - b) / np.maximum(a + b, 1.0)
    ratio = np.log1p(a) - np.log1p(b)
    return (
        np.stack([share, ratio], axis=1),
        np.stack([np.abs(share), np.log1p(a + b)], axis=1),
    )


class Baselines:
    """The three nulls fitted on training rows."""

    def __init__(self, shares: np.ndarray, length: SymmetricLogistic) -> None:
        """``shares`` is the class prior (3,), ``length`` the logistic model on length alone."""
        self.shares, self.length = shares, length

    @classmethod
    def fit(cls, lengths: np.ndarray, votes: np.ndarray, absent: Collection[int] = ()) -> Baselines:
        """Fit on lengths of answers and votes.

        Args:
            lengths: of ``arena.battle_texts.answer_lengths``, (n, 2).
            votes: labels (n,) or weighted shares (n, 3), see ``meta.votes``.
            absent: classes that no vote of the whole training file is for. Ties then get
                ``meta.votes.chance_of_absent``, as from the model.
        """
        shares, length = prior(votes), SymmetricLogistic.fit(*length_columns(lengths), votes)
        if TIE in absent:
            rate = chance_of_absent(len(votes))
            decided = shares[:TIE] / shares[:TIE].sum()
            shares = np.append((1 - rate) * decided, rate)
            length = replace(length, tie_bias=float(logit(rate)))
        return cls(shares, length)

    def predict(self, lengths: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities (n, 3) by each null's name, from lengths (n, 2)."""
        n = len(lengths)
        return {
            "uniform": np.full((n, 3), 1 / 3),
            "prior": np.tile(self.shares, (n, 1)),
            "length": self.length.predict(*length_columns(lengths)),
        }
