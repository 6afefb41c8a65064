"""What a model says of a battle in both orders, as a view: the verdict, and how far it moves."""

from __future__ import annotations

import numpy as np

from arena.feature_table import Column


def columns(family: str) -> dict[str, Column]:
    """The columns of such a view, whose verdict belongs to ``family``.

    Of the logits z of A, B and tie, read in both orders:

    ===========  ===================================================================================
    side         z_A - z_B, mean of both orders
    tie          z_tie - (z_A + z_B) / 2, mean of both orders
    absside      size of ``side``
    position     how much more the model likes whichever answer stands first: z_first - z_second,
                 mean of both orders
    absposition  its size
    tieshift     how far ``tie`` moves between the orders
    ===========  ===================================================================================

    softmax(side / 2, -side / 2, tie) are the model's probabilities with both orders averaged. The
    last three belong to the family "position".
    """
    return {
        "side": Column("anti", family),
        "tie": Column("sym", family),
        "absside": Column("sym", family),
        "position": Column("sym", "position"),
        "absposition": Column("sym", "position"),
        "tieshift": Column("sym", "position"),
    }


def view_values(forward: np.ndarray, swapped: np.ndarray) -> np.ndarray:
    """The values of ``columns``.

    Args:
        forward: logits or log-probabilities (n, 3) of A before B, in the class order.
        swapped: the same of B before A; to that sequence B is the first answer.

    Returns:
        float32 (n, 6); exchanging the arguments is what a swap of the battles does.
    """
    side1, tie1 = log_odds(forward)
    side2, tie2 = log_odds(swapped)
    side, tie, position = (side1 - side2) / 2, (tie1 + tie2) / 2, (side1 + side2) / 2
    values = [side, tie, np.abs(side), position, np.abs(position), np.abs(tie1 - tie2)]
    return np.stack(values, axis=1).astype(np.float32)


def mean_odds(forward: np.ndarray, swapped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The columns ``side`` and ``tie`` alone, (n,) each; the arguments are ``view_values``'."""
    (side1, tie1), (side2, tie2) = log_odds(forward), log_odds(swapped)
    return (side1 - side2) / 2, (tie1 + tie2) / 2


def log_odds(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first answer against the second, and a tie against their mean; (n,) each."""
    return logits[:, 0] - logits[:, 1], logits[:, 2] - (logits[:, 0] + logits[:, 1]) / 2
