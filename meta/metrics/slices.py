"""Slices of a table of battles, and the scores of each.

A family of slices puts every battle into one slice. The names depend on the battle alone, except
for languages, of which the rare ones share a slice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from arena.battle_texts import answer_lengths
from arena.schema import TIE, Turns, digest
from features.language import NONE, language
from features.prompt_type import code, creative, maths, short_question
from features.text import Text
from meta.base_models.baselines import length_columns
from meta.metrics.bootstrap import Interval, intervals
from meta.metrics.scores import (
    accuracy,
    brier,
    classwise_ece,
    decisive_auc,
    ece_by_chance,
    log_loss,
)
from meta.votes import shares_of, winners

OUTCOMES = ("A won", "B won", "tie")
"""Names of the slices by label, in class order."""

WINNER = "winner"
"""The family that knows the label: a calibrated forecast is not calibrated in its slices."""

LENGTHS = (300, 1_000, 3_000)
"""Characters of both answers at which a new slice begins: steps of about half a decade."""

GAPS = (1.25, 2.0)
"""Longer answer by shorter answer at which a new slice begins."""

LANGUAGES = 6
"""Languages with a slice of their own: the most frequent ones."""

RARE = 30
"""Battles under which a language is among the others."""


def name_slices(
    battles: Iterable[pd.DataFrame],
    votes: np.ndarray | None = None,
    source: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Name the slice of each battle, in every family.

    Args:
        battles: successive parts of the canonical table, n rows in all; reads ``prompt``,
            ``response_a``, ``response_b``.
        votes: labels (n,) or (n, 3), see ``meta.votes``; they give the family ``winner``.
        source: names (n,), for example the file or data set that a battle comes from.

    Returns:
        Family -> names, str (n,). Families: winner (with votes), length, length gap, language,
        prompt type, turns, source (with source).
    """
    lengths, prompts = [], list[_Prompt]()
    known: dict[str, _Prompt] = {}
    for part in battles:
        lengths.append(answer_lengths([part]))
        prompts += [_described(turns, known) for turns in part["prompt"]]
    anti, sym = length_columns(np.concatenate(lengths))
    # Of the null's columns these two are log((1 + a) / (1 + b)) and log(1 + a + b).
    characters, ratio = np.expm1(sym[:, 1]), np.exp(np.abs(anti[:, 1]))
    families = {
        "length": np.array(BY_LENGTH)[np.digitize(characters.round(), LENGTHS)],
        "length gap": np.array(BY_GAP)[np.digitize(ratio, GAPS)],
        "language": _languages([prompt.language for prompt in prompts]),
        "prompt type": np.array([prompt.type for prompt in prompts], dtype=np.str_),
        "turns": np.array([prompt.turns for prompt in prompts], dtype=np.str_),
    }
    if votes is not None:
        families = {WINNER: np.array(OUTCOMES)[winners(votes)], **families}
    if source is not None:
        families["source"] = np.asarray(source, dtype=np.str_)
    return families


class _Prompt(NamedTuple):
    """What the slices need of a prompt."""

    language: str
    type: str
    turns: str


def _described(turns: Turns, known: dict[str, _Prompt]) -> _Prompt:
    """A prompt's description; one that is not ``known`` by its hash is added there."""
    key = digest([turns])
    if key not in known:
        text, count = Text(turns), max(1, len(turns))
        known[key] = _Prompt(
            language(text).code, prompt_type(text), str(count) if count < 3 else "3 and more"
        )
    return known[key]


def _steps(edges: tuple[float, ...], unit: str) -> list[str]:
    between = [f"{low:,g} to {high:,g} {unit}" for low, high in pairwise(edges)]
    return [f"under {edges[0]:,g} {unit}", *between, f"{edges[-1]:,g} {unit} and more"]


BY_LENGTH, BY_GAP = _steps(LENGTHS, "characters"), _steps(GAPS, "times")
"""Slices in their order, short to long."""


def _languages(codes: list[str]) -> np.ndarray:
    # Ties in frequency go by name, so that the order of the rows does not matter.
    ranked = sorted(Counter(codes).items(), key=lambda item: (-item[1], item[0]))
    kept = {name for name, rows in ranked[:LANGUAGES] if rows >= RARE} - {NONE.code}
    return np.array([name if name in kept else "other" for name in codes], dtype=np.str_)


def prompt_type(prompt: Text) -> str:
    """The first that fits of code, maths, creative, short question; else other."""
    for name, signal in (
        ("code", code),
        ("maths", maths),
        ("creative", creative),
        ("short question", short_question),
    ):
        if signal(prompt) > 0:
            return name
    return "other"


@dataclass(frozen=True)
class SliceScore:
    """Scores of one slice."""

    name: str
    rows: int
    groups: int
    log_loss: float
    brier: float
    ece: float
    """Class-wise expected calibration error."""
    ece_by_chance: float
    """What a perfectly calibrated forecast would show on so many rows."""
    accuracy: float
    auc: float | None
    """Of the rows that are not ties, see ``meta.metrics.scores.decisive_auc``; None without any."""
    intervals: dict[str, Interval | None]
    """95% intervals of the figures, see ``meta.metrics.bootstrap``."""
    tie_forecast: float
    """Mean P(tie)."""
    tie_share: float
    """Share of ties among the votes."""


def score_slices(
    probabilities: np.ndarray, votes: np.ndarray, groups: np.ndarray, names: np.ndarray
) -> list[SliceScore]:
    """Score one forecast in each slice of a family: in steps of length, else the largest first.

    Args:
        probabilities: float64 (n, 3), class order ``arena.schema.CLASSES``.
        votes: labels (n,) or shares (n, 3), see ``meta.votes``.
        groups: prompt group of each row, (n,).
        names: slice of each row, str (n,).
    """
    steps = [*BY_LENGTH, *BY_GAP]
    return sorted(
        (
            _score(str(name), probabilities[rows], votes[rows], groups[rows])
            for name in np.unique(names)
            for rows in [np.flatnonzero(names == name)]
        ),
        key=lambda s: (steps.index(s.name) if s.name in steps else -1, -s.rows),
    )


def _score(
    name: str, probabilities: np.ndarray, votes: np.ndarray, groups: np.ndarray
) -> SliceScore:
    auc = decisive_auc(probabilities, votes)
    return SliceScore(
        name=name,
        rows=len(votes),
        groups=len(np.unique(groups)),
        log_loss=log_loss(probabilities, votes),
        brier=brier(probabilities, votes),
        ece=classwise_ece(probabilities, votes),
        ece_by_chance=ece_by_chance(probabilities, votes, groups)[0],
        accuracy=accuracy(probabilities, votes),
        auc=auc if np.isfinite(auc) else None,
        intervals=intervals(probabilities, votes, groups),
        tie_forecast=float(probabilities[:, TIE].mean()),
        tie_share=float(shares_of(votes)[:, TIE].mean()),
    )


def score_families(
    probabilities: np.ndarray,
    votes: np.ndarray,
    groups: np.ndarray,
    families: Mapping[str, np.ndarray],
) -> dict[str, list[dict[str, Any]]]:
    """:func:`score_slices` of every family of :func:`name_slices`, ready for JSON."""
    return {
        family: [asdict(score) for score in score_slices(probabilities, votes, groups, names)]
        for family, names in families.items()
    }
