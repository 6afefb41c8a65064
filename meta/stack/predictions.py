"""The predictions of the scored rows on disk, for the report and for blending or comparing.

One row per battle, in the training file's order: ``id``, ``group``, ``label`` (0 A, 1 B, 2 tie)
and three columns per forecast, ``meta.winner_model_a`` and so on. Where votes are shared (soft
labels) also ``share_a``, ``share_b`` and ``share_tie``; the label is the largest of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from arena.schema import CLASSES
from common.errors import Code, UserError
from common.files import atomic

SHARES = ["share_a", "share_b", "share_tie"]


@dataclass(frozen=True)
class Predictions:
    """Forecasts of the same n rows, none of which the forecaster saw."""

    ids: list[str]
    groups: np.ndarray
    """Prompt group of each row, str (n,)."""
    labels: np.ndarray
    """int (n,): 0 A, 1 B, 2 tie."""
    probabilities: Mapping[str, np.ndarray]
    """By forecast, float64 (n, 3)."""
    shares: np.ndarray | None = None
    """Shares of the votes, float64 (n, 3), where some are shared."""

    def write(self, path: Path) -> None:
        """Write parquet, atomically."""
        columns: dict[str, object] = {"id": self.ids, "group": self.groups, "label": self.labels}
        for name, p in self.probabilities.items():
            columns |= {f"{name}.{c}": p[:, i] for i, c in enumerate(CLASSES)}
        if self.shares is not None:
            columns |= dict(zip(SHARES, self.shares.T, strict=True))
        with atomic(path) as temporary:
            pd.DataFrame(columns).to_parquet(temporary, index=False)

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read what :meth:`write` wrote.

        Raises:
            UserError: it is not there, or damaged.
        """
        if not path.exists():
            raise UserError(
                Code.FIGURES_MISSING,
                f"{path} does not exist. Run `python pipelines/train_meta.py` first.",
            )
        try:
            table = pd.read_parquet(path)
            last = f".{CLASSES[-1]}"
            names = [c.removesuffix(last) for c in table.columns if c.endswith(last)]
            return cls(
                table["id"].tolist(),
                table["group"].to_numpy(dtype=np.str_),
                table["label"].to_numpy(dtype=np.int64),
                {n: table[[f"{n}.{c}" for c in CLASSES]].to_numpy() for n in names},
                table[SHARES].to_numpy(np.float64) if SHARES[0] in table else None,
            )
        except (KeyError, ValueError, OSError):
            raise UserError(
                Code.RUN_FILE_DAMAGED, f"{path} is damaged. Rerun `python pipelines/train_meta.py`."
            ) from None
