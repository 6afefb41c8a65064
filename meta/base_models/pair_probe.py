"""Supervised projections of the states in which a frozen model has read both answers."""

from __future__ import annotations

from dataclasses import dataclass

from common.run_dir import RunDir
from embeddings.frozen.pair_states import VIEW, read_joint
from embeddings.frozen.states import HiddenStates
from meta.base_models import register
from meta.base_models.hidden_probe import HiddenProbe


@register
@dataclass(frozen=True)
class PairProbe(HiddenProbe):
    """Probes as of ``hidden``; the pair of a slot is a state in either order of the battle."""

    name = VIEW
    strength = 1e-3
    again = "finetune.py --pool answers"

    @staticmethod
    def stored(run: RunDir, split: str) -> HiddenStates:
        """The states of a split that has them."""
        return read_joint(run.views, run.judges, split)
