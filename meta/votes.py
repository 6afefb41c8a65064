"""Votes as the second stage learns from them.

An array of votes has one row a battle, and one of two forms:

    int (n,)            labels: 0 A, 1 B, 2 tie
    float64 (n, 3)      the shares of A, B and a tie, times the weight of the row

A label is a row of the identity matrix. The first form stands wherever no vote is shared and all
weigh alike; rows are taken from either as from any array. A row of weight 2 counts as twice that
row does, and a shared vote as one vote for each class, with its share as weight.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from arena.schema import TIE, A, B
from arena.swap import SWAP


def labels_of(battles: pd.DataFrame) -> np.ndarray:
    """Labels as int64 (n,)."""
    return battles["label"].to_numpy(dtype=np.int64)


def scored_votes(battles: pd.DataFrame) -> np.ndarray:
    """The votes that forecasts of battles are scored by: all rows weigh alike.

    Args:
        battles: canonical table, n rows.

    Returns:
        Labels where no vote is shared; -1 or a row of zeros where a vote is not known.
    """
    labels, shared = labels_of(battles), battles["soft_label"].notna().to_numpy()
    shares = np.eye(3)[labels]
    shares[labels < 0] = 0.0
    if shared.any():
        shares[shared] = np.array(battles.loc[shared, "soft_label"].tolist(), dtype=np.float64)
    return shares if ((shares > 0) & (shares < 1)).any() else labels


def training_votes(battles: pd.DataFrame) -> np.ndarray:
    """The votes that models learn from.

    Weights say how much rows count beside each other: they are divided by their mean, so that
    their scale plays no part.

    Args:
        battles: canonical table, n rows, each with a label and a weight above 0.
    """
    votes, weights = scored_votes(battles), battles["weight"].to_numpy(dtype=np.float64)
    if not len(weights) or (weights == weights[0]).all():
        return votes
    # The largest first: a sum of huge weights would be infinite.
    relative = weights / weights.max()
    weighted: np.ndarray = shares_of(votes) * (relative / relative.mean())[:, None]
    return weighted


def shares_of(votes: np.ndarray) -> np.ndarray:
    """Votes in the second form, float64 (n, 3)."""
    return votes if votes.ndim == 2 else np.eye(3)[votes]


def weights_of(votes: np.ndarray) -> np.ndarray:
    """How much each row counts, float64 (n,)."""
    return votes.sum(axis=1) if votes.ndim == 2 else np.ones(len(votes))


def winners(votes: np.ndarray) -> np.ndarray:
    """Votes in the first form, int (n,): the largest share; a tie where A and B share the lead."""
    if votes.ndim == 1:
        return votes
    a, b, tie = votes[:, A], votes[:, B], votes[:, TIE]
    return np.where((tie >= np.maximum(a, b)) | (a == b), TIE, np.where(a > b, A, B))


def absent_classes(votes: np.ndarray) -> tuple[int, ...]:
    """Classes that no vote is for, in either order of the answers."""
    seen = shares_of(votes).sum(axis=0)
    return tuple(np.flatnonzero(seen + seen[SWAP] == 0).tolist())


def chance_of_absent(rows: float) -> float:
    """Probability of a class that did not occur once in so many votes.

    Either it cannot occur (a vote without ties) or it can: a chance of 1/2 each before a vote was
    seen, and in the second case any rate is equally likely. No occurrence in n votes has the
    likelihood 1 / (n + 1) in the second case, which leaves it 1 / (n + 2), and there the next one
    has the chance 1 / (n + 2) (Laplace's rule of succession).
    """
    return 1 / (rows + 2) ** 2


def examples(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Votes as labelled examples, in their order: a shared one is an example for each class.

    Returns:
        Positions of the rows, int (m,); labels, int (m,); and weights, float64 (m,), ``None`` for
        votes that are labels, of which each is one example.
    """
    if votes.ndim == 1:
        return np.arange(len(votes)), votes, None
    rows, labels = np.nonzero(votes)
    return rows, labels, votes[rows, labels]


def describe(battles: pd.DataFrame) -> str:
    """How the votes of training battles fall, how many are shared, and how they weigh: a line."""
    a, b, tie = 100 * shares_of(scored_votes(battles)).mean(axis=0)
    line = f"votes: A {a:.1f}%, B {b:.1f}%, tie {tie:.1f}%"
    if shared := int(battles["soft_label"].notna().sum()):
        line += f"; {shared:,} of them are shared among the classes (soft labels)"
    weights = battles["weight"]
    if weights.nunique() > 1:
        line += (
            f"; weights from {weights.min():g} to {weights.max():g}, which count in all that "
            "learns, not in the figures"
        )
    return line
