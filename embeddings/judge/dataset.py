"""The training battles of a judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arena.swap import SWAP
from embeddings.prompts import pairs
from embeddings.prompts.pairs import Pairs


@dataclass(frozen=True)
class Sample:
    """One order of a battle.

    Attributes:
        id: of the battle.
        sequence: packed.
        target: probabilities in the order of the sequence, float32 (3,).
        teacher: the same of a teacher, if there is one.
    """

    id: str
    sequence: pairs.PackedPair
    target: np.ndarray
    teacher: np.ndarray | None


@dataclass(frozen=True)
class JudgeDataset:
    """Battles to learn from.

    Attributes:
        pairs: packed, n.
        targets: probabilities of the votes or soft labels, float32 (n, 3).
        groups: prompt group of each, n.
        teacher: a teacher's probabilities, float32 (n, 3), or none.
    """

    pairs: Pairs
    targets: np.ndarray
    groups: list[str]
    teacher: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> JudgeDataset:
        """The examples at positions ``rows`` (integers)."""
        teacher = None if self.teacher is None else self.teacher[rows]
        groups = [self.groups[row] for row in rows]
        return JudgeDataset(self.pairs.take(rows), self.targets[rows], groups, teacher)

    def both_orders(self, rows: np.ndarray) -> list[Sample]:
        """Each row and its swapped twin, longest first."""
        samples = []
        for row in rows:
            t = None if self.teacher is None else self.teacher[row]
            u = None if t is None else t[SWAP]
            target = self.targets[row]
            samples += [
                Sample(self.pairs.ids[row], self.pairs.forward[row], target, t),
                Sample(self.pairs.ids[row], self.pairs.swapped[row], target[SWAP], u),
            ]
        return sorted(samples, key=lambda s: -len(s.sequence.ids))
