"""Toy evidence with a planted signal, in memory."""

import hashlib

import numpy as np
import pandas as pd

from arena.battle_texts import BattleTexts
from arena.feature_table import Column, FeatureTable
from embeddings.frozen.states import HiddenStates
from meta.base_models.hidden_probe import HiddenProbe
from meta.stack.dataset import Dataset


def toy_battles(n: int, rng: np.random.Generator) -> pd.DataFrame:
    groups = [hashlib.sha256(b"%d" % (i // 2)).hexdigest()[:16] for i in range(n)]
    lengths = rng.integers(1, 60, (n, 2))
    return pd.DataFrame(
        {
            "id": [str(i) for i in range(n)],
            "prompt": [[f"prompt {i // 2}"] for i in range(n)],
            "response_a": [["a" * int(x)] for x in lengths[:, 0]],
            "response_b": [["b" * int(x)] for x in lengths[:, 1]],
            "group": groups,
            "reason": "",
            "soft_label": pd.Series([None] * n, dtype=object),
            "weight": 1.0,
            "file_id": "",
        }
    )


def toy_evidence(n: int = 200, seed: int = 0, signal: float = 2.0) -> Dataset:
    """Battles whose votes follow one antisymmetric column and one direction of the states."""
    rng = np.random.default_rng(seed)
    battles = toy_battles(n, rng)
    columns = {
        "x": Column("anti"),
        "size": Column("sym"),
        "left": Column("paired", "", "right"),
        "right": Column("paired", "", "left"),
    }
    values = rng.normal(size=(n, 4)).astype(np.float32)
    a = rng.normal(size=(n, 2, 8)).astype(np.float16)
    b = rng.normal(size=(n, 2, 8)).astype(np.float16)
    utility = signal * (values[:, 0] + (a - b)[:, 0, 0].astype(np.float32))
    tie = values[:, 1] - 1.0
    raw = np.stack([utility / 2, -utility / 2, tie], axis=1) + rng.gumbel(size=(n, 3))
    battles["label"] = raw.argmax(axis=1).astype(np.int8)
    ids = battles["id"].tolist()
    hidden = HiddenStates(
        ids, ["layer1.mean", "layer1.last"], lambda i, rows: (a[rows, i], b[rows, i])
    )
    tables = {"style": FeatureTable(ids, values, columns)}
    return Dataset(battles, BattleTexts(battles), tables, {"hidden": HiddenProbe(hidden)})
