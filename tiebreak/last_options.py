"""What a command on a run's language model does not name is as the last time, else the default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from arena.battle_table import read_battles_table
from arena.feature_table import FeatureTable
from arena.predictions_file import from_log_odds
from arena.reader import valid_rows
from common.errors import Code, UserError
from common.run_dir import SPLITS, RunDir
from embeddings.backbone.config import BackboneConfig
from meta.metrics.scores import log_loss
from tiebreak.run_record import as_json


def resolved(
    named: Mapping[str, Any], last: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The value of every option of ``defaults``.

    Args:
        named: options of this call; others may be among them.
        last: the entry in run.json that the last call left.
        defaults: of all options.
    """
    return {name: named.get(name, last.get(name, value)) for name, value in defaults.items()}


def backbone_entry(name: str, config: BackboneConfig | None) -> dict[str, Any]:
    """A backbone as run.json keeps it: its name as it was given, and how it is read."""
    if config is None:
        return {"asked": name, "quantization": None}
    return {"asked": name, "quantization": config.quantization, "config": as_json(config)}


def valid_battles(run: RunDir) -> dict[str, pd.DataFrame]:
    """The battles of the run's splits that were not rejected.

    Raises:
        UserError: there are no training battles.
    """
    run.require_battles("train")
    battles = {
        s: valid_rows(read_battles_table(run.battles(s))) for s in SPLITS if run.battles(s).exists()
    }
    if battles["train"].empty:
        raise UserError(Code.NO_TRAINING_BATTLES, f"{run.folder} has no valid training battle.")
    return battles


def log_loss_of(table: FeatureTable, votes: np.ndarray) -> tuple[float, int]:
    """Log loss of a view of side and tie log-odds, uncalibrated, and of how many battles.

    Args:
        table: the view, n rows; those that are not finite do not count.
        votes: labels (n,) or shares (n, 3), see ``meta.votes``.
    """
    rows = np.isfinite(table.values[:, :2]).all(axis=1)
    if not rows.any():
        return float("nan"), 0
    side, tie = table.values[rows, 0], table.values[rows, 1]
    return log_loss(from_log_odds(side, tie), votes[rows]), int(rows.sum())
