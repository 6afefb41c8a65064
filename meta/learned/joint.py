"""Supervised projections of the states in which a frozen model has read both answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from arena.run import Run
from arena.views import View
from embeddings.joint import VIEW, read_joint
from meta.learned import register
from meta.learned.hidden import HiddenProbes


@register
@dataclass(frozen=True)
class JointProbes(HiddenProbes):
    """Probes as of ``hidden``; the pair of a slot is a state in either order of the battle."""

    name = VIEW
    strength = 1e-3
    again = "finetune.py"

    @classmethod
    def read(
        cls, run: Run, split: str, battles: pd.DataFrame, tables: Mapping[str, View]
    ) -> JointProbes | None:
        """The states that ``finetune.py`` made of these battles."""
        if not (run.views / cls.name / f"{split}.parquet").exists():
            return None
        return cls(read_joint(run.views, run.judges, split))
