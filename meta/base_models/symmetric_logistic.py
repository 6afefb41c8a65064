"""A three-class logistic model that is exactly symmetric under a swap of A and B.

Two questions, each answered by its own kind of evidence: which side (antisymmetric columns, no
intercept) and whether a tie (symmetric columns):

    P(tie) = sigmoid(t),  P(A) = (1 - P(tie)) sigmoid(s),  P(B) = (1 - P(tie)) sigmoid(-s)

A swap flips the sign of ``s`` and leaves ``t``, so P(A) and P(B) trade places to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from arena.schema import TIE, A
from meta.votes import examples, shares_of


@dataclass(frozen=True)
class SymmetricLogistic:
    """Weights of the two questions, on unscaled columns."""

    side: np.ndarray
    """float32 (d_anti,): log-odds of A against B per unit of each antisymmetric column."""
    tie: np.ndarray
    """float32 (d_sym,): log-odds of a tie per unit of each symmetric column."""
    tie_bias: float

    @classmethod
    def fit(
        cls, anti: np.ndarray, sym: np.ndarray, votes: np.ndarray, C: float = 1.0
    ) -> SymmetricLogistic:
        """Fit both questions by penalised maximum likelihood.

        Args:
            anti: float (n, d_anti), columns that change sign under a swap.
            sym: float (n, d_sym), columns that a swap leaves alone.
            votes: labels (n,) or weighted shares (n, 3), see ``meta.votes``.
            C: scikit-learn's ``C`` for columns scaled to unit size: smaller is stiffer.
        """
        shares = shares_of(votes)
        rate = (shares[:, TIE].sum() + 0.5) / (shares.sum() + 1.0)
        rows, labels, weights = examples(votes)
        if weights is not None:
            anti, sym = anti[rows], sym[rows]
        is_tie = labels == TIE
        decided, decided_weights = anti[~is_tie], None if weights is None else weights[~is_tie]
        side = np.zeros(anti.shape[1], dtype=np.float32)
        tie, tie_bias = np.zeros(sym.shape[1], dtype=np.float32), float(logit(rate))
        if (~is_tie).sum() > 1:
            scale = _safe(np.sqrt(_mean(anti**2, weights)))
            first, signs = alternate_sides(labels[~is_tie] == A)
            model = LogisticRegression(C=C, fit_intercept=False, max_iter=300)
            model.fit(decided / scale * signs[:, None], first, decided_weights)
            side = (model.coef_[0] / scale).astype(np.float32)
        if is_tie.any() and not is_tie.all():
            mean, scale = _mean(sym, weights), _safe(_deviation(sym, weights))
            model = LogisticRegression(C=C, max_iter=300)
            model.fit((sym - mean) / scale, is_tie, weights)
            tie = (model.coef_[0] / scale).astype(np.float32)
            tie_bias = float(model.intercept_[0] - mean @ (model.coef_[0] / scale))
        return cls(side, tie, tie_bias)

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], prefix: str = "") -> SymmetricLogistic:
        """Take back what :meth:`arrays` gave, under names that begin with ``prefix``."""
        side, tie, bias = (arrays[prefix + part] for part in ("side", "tie", "tie_bias"))
        return cls(side, tie, float(bias[0]))

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights as arrays, for safetensors."""
        return {"side": self.side, "tie": self.tie, "tie_bias": np.array([self.tie_bias])}

    def log_odds(self, anti: np.ndarray, sym: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds of A against B and of a tie against a decision; two float (n,)."""
        return anti @ self.side, sym @ self.tie + self.tie_bias

    def predict(self, anti: np.ndarray, sym: np.ndarray) -> np.ndarray:
        """Probabilities (n, 3)."""
        side, tie = self.log_odds(anti, sym)
        decided = expit(-tie)
        return np.stack([decided * expit(side), decided * expit(-side), expit(tie)], axis=1)


def alternate_sides(won: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror decisive battles so that A and B win by turns: both classes occur, whoever wins.

    A battle and its mirror image weigh alike in a model without an intercept.

    Args:
        won: whether A won, bool (n,).

    Returns:
        Whether A wins then, bool (n,), and the sign of each battle's differences, float32 (n,).
    """
    first = np.arange(len(won)) % 2 == 0
    return first, np.where(won == first, 1, -1).astype(np.float32)


def _mean(columns: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Mean of each column, (d,)."""
    return np.asarray(np.average(columns, axis=0, weights=weights))


def _deviation(columns: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Standard deviation of each column, (d,)."""
    if weights is None:
        return np.asarray(columns.std(axis=0))
    return np.asarray(np.sqrt(_mean((columns - _mean(columns, weights)) ** 2, weights)))


def _safe(scale: np.ndarray) -> np.ndarray:
    """A scale that can be divided by: columns that never vary keep 1."""
    return np.where(scale > 1e-8, scale, 1.0)
