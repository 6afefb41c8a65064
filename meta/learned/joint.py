"""Supervised projections of the states in which a frozen model has read both answers."""

from __future__ import annotations

from dataclasses import dataclass

from arena.run import Run
from embeddings.hidden import HiddenStates
from embeddings.joint import VIEW, read_joint
from meta.learned import register
from meta.learned.hidden import HiddenProbes


@register
@dataclass(frozen=True)
class JointProbes(HiddenProbes):
    """Probes as of ``hidden``; the pair of a slot is a state in either order of the battle."""

    name = VIEW
    strength = 1e-3
    again = "finetune.py --pool answers"

    @staticmethod
    def stored(run: Run, split: str) -> HiddenStates:
        """The states of a split that has them."""
        return read_joint(run.views, run.judges, split)
