"""The frozen backbone's states of both answers in one sequence, as evidence of their own.

They are what the heads of ``embeddings.judge.model`` start from. Each slot is a pair of states that
change places when the answers do: of the last token, of the answer that stands first, of the answer
that stands second, each once with A before B and once with B before A.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from common.parquet import write_table
from embeddings.cache.shards import ShardStore
from embeddings.frozen.states import HiddenStates, read_index
from embeddings.prompts.pairs import Pairs

VIEW = "joint"
AGAIN = "python pipelines/finetune.py"

FORWARD, SWAPPED = "key_forward", "key_swapped"

SIDES = {"last": (FORWARD, SWAPPED), "first": (FORWARD, SWAPPED), "second": (SWAPPED, FORWARD)}
"""Of each state, in which order of the battle it belongs to A, and in which to B."""

STATES = (*SIDES, "difference")
"""States of a depth, in the order in which they are stored."""


def write_joint(
    views: Path, split: str, table: Pairs, texts: str, store: str, depths: Sequence[int]
) -> None:
    """Write which states belong to which battles.

    Args:
        views: folder of the run's views.
        split: ``train`` or ``test``.
        table: packed battles, n.
        texts: ``arena.battle_table.texts_hash`` of the battles.
        store: name of the folder that has the states of both orders, float16 (items, len(depths)
            * len(STATES), d).
        depths: layers of the states.
    """
    columns = {
        "id": pa.array(table.ids, pa.string()),
        FORWARD: pa.array([s.key for s in table.forward], pa.binary(32)),
        SWAPPED: pa.array([s.key for s in table.swapped], pa.binary(32)),
    }
    metadata = {"battles": texts, "source": store, "depths": ",".join(map(str, depths))}
    write_table(
        views / VIEW / f"{split}.parquet", pa.table(columns).replace_schema_metadata(metadata)
    )


def read_joint(views: Path, judges: Path, split: str) -> HiddenStates:
    """The states of a split; the store is read when a slot is.

    Args:
        views: folder of the run's views.
        judges: folder of the run's judges, where the store lies.
        split: ``train`` or ``test``.

    Raises:
        UserError: they are damaged, or the store lacks some.
    """
    path = views / VIEW / f"{split}.parquet"
    index = read_index(path, (FORWARD, SWAPPED), "depths", "frozen-[0-9a-f]{16}", AGAIN)
    store = ShardStore(judges / index.source, AGAIN)
    places = dict(zip((FORWARD, SWAPPED), map(store.require, index.keys), strict=True))
    slots = [(i, what) for i in range(len(index.listed)) for what in SIDES]

    def slot(number: int) -> tuple[np.ndarray, np.ndarray]:
        depth, what = slots[number]
        column = depth * len(STATES) + STATES.index(what)
        a, b = SIDES[what]
        return store.rows(places[a], "states", column), store.rows(places[b], "states", column)

    names = [f"layer{index.listed[i]}.{what}" for i, what in slots]
    return HiddenStates(index.ids, names, slot, index.source)
