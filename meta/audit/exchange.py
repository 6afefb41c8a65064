"""The swap gap of battles whose texts are exchanged: their handcrafted signals are recomputed.

Exchanging a design matrix by its declared parities does not test the parities: both orders are
averaged, so the forecast follows them whether they are right or wrong.
"""

from __future__ import annotations

import pandas as pd

import features
from arena.battle_texts import BattleTexts
from arena.feature_table import FeatureTable
from arena.swap import swap_battles
from meta.audit.statistics import subsample
from meta.metrics.scores import swap_gap
from meta.stack.stacker import Stacker

ROWS = 50
"""Battles that are exchanged: a column that the model uses varies among so many."""


def exchange_gap(stacker: Stacker, battles: BattleTexts, design: FeatureTable) -> float:
    """Largest |p(x) - unswap(p(swap x))| over ``ROWS`` battles, drawn the same way every time.

    Handcrafted columns of the exchanged battles come from the exchanged texts, where the code still
    has them; the others are exchanged by their declared parity. So the gap is above rounding where
    a handcrafted column that the model uses has a wrong parity, or comes from other code.

    Args:
        stacker: the model.
        battles: n valid ones.
        design: their design matrix, n rows, with the model's columns.
    """
    rows = subsample(len(battles), ROWS)
    straight = design.take(rows)
    signals = features.extract(swap_battles(pd.concat(battles.take(rows))), workers=1)
    values = straight.swapped_values()
    place = {name: i for i, name in enumerate(straight.names)}
    for i, name in enumerate(signals.names):
        if f"style.{name}" in place:
            values[:, place[f"style.{name}"]] = signals.values[:, i]
    exchanged = FeatureTable(straight.ids, values, straight.columns)
    return swap_gap(stacker.predict(straight), stacker.predict(exchanged))
