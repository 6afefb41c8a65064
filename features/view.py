"""The view ``style``: handcrafted signals of battles in memory."""

from __future__ import annotations

from typing import Any

import pandas as pd

from arena.feature_table import FeatureTable
from arena.view import STYLE, View
from common.run_dir import RunDir
from features.extraction import extract


class Signals(View):
    """Handcrafted signals; they learn nothing, so those of every run are the same."""

    kind = STYLE

    def __init__(self, name: str = STYLE.name) -> None:
        """``name`` of the view."""
        self.name = name

    @classmethod
    def of_run(cls, run: RunDir, name: str, shared: dict[Any, Any]) -> Signals:
        """The view; a run keeps nothing that it would need."""
        return cls(name)

    def transform(self, battles: pd.DataFrame) -> FeatureTable:
        """The signals of battles: see :func:`features.extraction.extract`."""
        return extract(battles)
