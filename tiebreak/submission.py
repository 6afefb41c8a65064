"""The tables that ``submit.py`` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from arena.ids import shown_ids
from arena.schema import CLASSES, A, B
from common.errors import UserError
from common.files import check_writable
from common.run_dir import RunDir
from meta.metrics.pairs import oriented

LAYOUTS = ("lmsys", "wsdm")
"""Layouts of a submission, by the Kaggle competition that asks for it."""


def submission(battles: pd.DataFrame, probabilities: np.ndarray, layout: str) -> pd.DataFrame:
    """The predictions of all rows of a test file, in its order.

    Args:
        battles: canonical table, n rows.
        probabilities: float64 (n, 3).
        layout: one of ``LAYOUTS``.

    Returns:
        ``id`` as the file has it, and for ``lmsys`` the three probabilities; for ``wsdm``, where no
        vote is a tie, ``winner``: model_a or model_b, whichever is the more probable.
    """
    ids = shown_ids(battles).to_numpy()
    if layout == "wsdm":
        first = probabilities[:, A] >= probabilities[:, B]
        return pd.DataFrame({"id": ids, "winner": np.where(first, "model_a", "model_b")})
    table = pd.DataFrame(probabilities, columns=list(CLASSES))
    table.insert(0, "id", ids)
    return table


def chosen_table(battles: pd.DataFrame, probabilities: np.ndarray) -> pd.DataFrame:
    """The same predictions of a file of pairs by what its columns are: chosen and rejected.

    Args:
        battles: canonical table, n rows, whose label says which side is the chosen answer.
        probabilities: float64 (n, 3).

    Returns:
        ``id``, ``p_chosen``, ``p_rejected``, ``p_tie``; see ``meta.metrics.pairs.oriented``.
    """
    table = pd.DataFrame(
        oriented(probabilities, battles["label"].to_numpy()),
        columns=["p_chosen", "p_rejected", "p_tie"],
    )
    table.insert(0, "id", shown_ids(battles).to_numpy())
    return table


def explanations_path(run: RunDir, out: Path) -> Path:
    """Where reasons are written: in the run, or beside ``out`` where the run cannot be written."""
    try:
        check_writable(run.explanations, "")
    except UserError:
        return out.with_name(f"{out.stem}.explanations.parquet")
    return run.explanations


def chosen_path(out: Path) -> Path:
    """Where :func:`chosen_table` is written, beside the submission ``out``."""
    return out.with_name(f"{out.stem}.chosen.csv")
