"""A battle with A and B exchanged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from arena.schema import TIE, UNKNOWN, A, B, digest

SWAP = np.array([B, A, TIE])
"""Class order after A and B change places."""

SWAPPED_LABEL = {A: B, B: A, TIE: TIE, UNKNOWN: UNKNOWN}


def swap_battles(df: pd.DataFrame) -> pd.DataFrame:
    """Exchange answers, models and winner of every row; swapping twice gives the table back.

    Ids, row, reason, weight and group stay, because the swapped battle is the same battle. The key
    is that of the new order, because a language model reads it as another text.
    """
    swapped = df.copy()
    for column in ("response", "model"):
        swapped[f"{column}_a"] = df[f"{column}_b"]
        swapped[f"{column}_b"] = df[f"{column}_a"]
    swapped["label"] = df["label"].map(SWAPPED_LABEL).astype(np.int8)
    if "soft_label" in df:
        soft = [s if s is None else [s[B], s[A], s[TIE]] for s in df["soft_label"]]
        swapped["soft_label"] = pd.Series(soft, df.index, object)
    texts = zip(swapped["prompt"], swapped["response_a"], swapped["response_b"], strict=True)
    swapped["key"] = pd.Series([digest(turns) for turns in texts], index=df.index, dtype="str")
    return swapped
