"""The sample that ships with the project: real answers of a small model, SIMULATED votes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from arena.schema import CLASSES

_FOLDER = Path(__file__).resolve().parent

TRAIN = _FOLDER / "train.csv"
"""Training battles in the LMSYS layout."""
TEST = _FOLDER / "test.csv"
"""Test battles, without votes."""
TRUTH = _FOLDER / "truth.csv"
"""True probabilities and votes of the battles of both splits."""


def truth(ids: pd.Series) -> np.ndarray:
    """The true probabilities of battles of the sample.

    Args:
        ids: battle ids as text, n of them.

    Returns:
        float64, shape (n, 3), class order ``arena.schema.CLASSES``.

    Raises:
        KeyError: an id is not of the sample.
    """
    table = pd.read_csv(TRUTH, dtype={"id": str}).set_index("id")
    columns = [f"p_{c}" for c in CLASSES]
    probabilities: np.ndarray = table.loc[ids.to_list(), columns].to_numpy(dtype=np.float64)
    return probabilities
