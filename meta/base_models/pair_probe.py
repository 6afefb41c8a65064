"""Supervised projections of the states in which a frozen model has read both answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from common.run_dir import RunDir
from embeddings.cache.memory import kept
from embeddings.frozen.states import HiddenStates
from meta.base_models import learned_kind, register
from meta.base_models.hidden_probe import HiddenProbe


@register
@dataclass(frozen=True)
class PairProbe(HiddenProbe):
    """Probes as of ``hidden``; the pair of a slot is a state in either order of the battle."""

    kind = learned_kind(
        "joint",
        "what its states say of both at once",
        "frozen",
        "finetune.py --pool answers",
        "joint",
    )

    @staticmethod
    def stored_states(run: RunDir, split: str) -> HiddenStates:
        """The states of a split, from disk."""
        # transformers takes seconds to import.
        from embeddings.frozen.pair_states import read_joint

        return read_joint(run.views, run.judges, split)

    @staticmethod
    def computed_states(run: RunDir, battles: pd.DataFrame, shared: dict[Any, Any]) -> HiddenStates:
        """The states of any battles, computed."""
        from embeddings.frozen.pair_states import PairStates

        states = kept(shared, ("pair states", run.folder), lambda: PairStates.of_run(run, shared))
        return states.read(battles)
