"""Stored hidden states of battles, by which store and keys; nothing here loads a language model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from common.errors import Code, UserError
from common.parquet import read_table
from embeddings.cache.shards import EXTRACT, ShardStore, as_keys
from embeddings.frozen.one_byte import as_float16

Rows = np.ndarray | slice
"""Positions of battles."""

SUFFIX = "(-[a-z]+(-[0-9]+)?)?"
"""Pattern of ``embeddings.backbone.device.store_suffix``."""


def store_notes(source: str, store: str) -> dict[str, str]:
    """What a table says of its states: whose they are, and where they lie if elsewhere."""
    return {"source": source, **({"store": store} if store != source else {})}


@dataclass(frozen=True)
class HiddenStates:
    """Pooled hidden states of a split's battles, in their order, read slot by slot and in parts.

    Attributes:
        ids: battle ids, n.
        slots: names of the slots, such as ``layer18.mean`` and ``layer18.last``.
        part: of a slot's number and positions of m battles, the states of answers A and B given the
            prompt, float16 (m, d) each; NaN where the model's were not finite.
        source: hash of the model and settings that made the states.
    """

    ids: list[str]
    slots: list[str]
    part: Callable[[int, Rows], tuple[np.ndarray, np.ndarray]]
    source: str = ""

    @classmethod
    def read(cls, folder: Path, split: str) -> HiddenStates:
        """The states of ``folder/hidden/<split>.parquet``; the store is read when a part is.

        Raises:
            UserError: the split was not extracted, or the store lacks some of it.
        """
        path = folder / "hidden" / f"{split}.parquet"
        if not path.exists():
            raise UserError(
                Code.SPLIT_NOT_EXTRACTED,
                f"{path} is missing. Run `python pipelines/extract.py` first.",
            )
        index = read_index(path, ("key_a", "key_b"), "slots", "[0-9a-f]{16}", EXTRACT)
        store = ShardStore(folder / "hidden" / index.store)
        places_a, places_b = map(store.require, index.keys)

        def part(number: int, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
            stored = (store.rows(p[rows], "states", number) for p in (places_a, places_b))
            a, b = map(as_float16, stored)
            return a, b

        return cls(index.ids, index.listed, part, index.source)

    def take(self, rows: np.ndarray) -> HiddenStates:
        """The states of the battles at positions ``rows`` (integer array or boolean mask)."""
        positions = np.arange(len(self.ids))[rows]
        return HiddenStates(
            [self.ids[i] for i in positions],
            self.slots,
            lambda number, part: self.part(number, positions[part]),
            self.source,
        )

    def slot(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The states of all battles of a slot, as :attr:`part` gives them."""
        return self.part(number, slice(None))


class Index(NamedTuple):
    """Which stored states belong to which battles, as ``read_index`` gives it.

    Attributes:
        ids: battle ids, n.
        source: hash of the settings that made the states, or what ends with it.
        store: name of the store's folder: the source, and ``embeddings.backbone.device``'s suffix.
        listed: names or numbers of the states.
        keys: content addresses, uint8 (n, 32) each.
    """

    ids: list[str]
    source: str
    store: str
    listed: list[str]
    keys: list[np.ndarray]


def read_index(
    path: Path, keys: Sequence[str], note: str, pattern: str, rerun_command: str
) -> Index:
    """Read a table of battles and of the states that a store has of them.

    Args:
        path: of the table.
        keys: its columns of content addresses.
        note: what of its metadata lists the states.
        pattern: of the source.
        rerun_command: the command that makes it, for people.

    Raises:
        UserError: it is damaged.
    """
    table = read_table(path)
    notes = table.schema.metadata or {}
    try:
        source, listed = notes[b"source"].decode(), notes[note.encode()].decode().split(",")
        columns = [table.column(name) for name in keys]
        store = notes.get(b"store", notes[b"source"]).decode()
        named = re.fullmatch(pattern, source) and re.fullmatch(f"{source}{SUFFIX}", store)
        if not named or any(c.type != pa.binary(32) for c in columns):
            raise ValueError(source)
        addresses = [as_keys(column.to_pylist()) for column in columns]
        return Index(table.column("id").to_pylist(), source, store, listed, addresses)
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(
            Code.RUN_FILE_DAMAGED, f"{path} is damaged. Rerun `{rerun_command}`."
        ) from error
