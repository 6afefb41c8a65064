"""Battles in chunks, so that the tokens of all of them need not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import TypeVar

import pandas as pd

from arena.schema import COLUMNS
from common.parquet import GROUP

CHUNK = 2 * GROUP
"""Battles that are packed and read together, of LMSYS some 300 MB of tokens. Another number makes
other shards; those that a run has remain valid."""

T = TypeVar("T")


def in_chunks(parts: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Battles in chunks of ``CHUNK``, whatever the parts; one empty chunk where there are none.

    Args:
        parts: successive rows of the canonical table; any part may be empty.
    """
    held: list[pd.DataFrame] = []
    room, none = CHUNK, True
    for part in parts:
        while len(part):
            held.append(part.iloc[:room])
            part = part.iloc[room:]
            room -= len(held[-1])
            if not room:
                yield _taken(held)
                room, none = CHUNK, False
    if held or none:
        yield _taken(held or [pd.DataFrame(columns=list(COLUMNS))])


def _taken(held: list[pd.DataFrame]) -> pd.DataFrame:
    """The parts as one table; the list is emptied, so that no other reference holds the texts."""
    whole = pd.concat(held) if len(held) > 1 else held[0]
    held.clear()
    return whole


@contextmanager
def packed_ahead(
    parts: Iterable[pd.DataFrame], pack: Callable[[Event, pd.DataFrame], T]
) -> Iterator[Iterator[T]]:
    """Chunks, each packed by a thread while the one before it is used; at most two are in memory.

    An exception in packing is raised where the chunk is taken from the iterator.

    Args:
        parts: as ``in_chunks`` takes them.
        pack: packs a chunk; ends early once the event is set.
    """
    stop = Event()
    # A map holds no chunk's texts while it waits.
    chunks = map(partial(pack, stop), in_chunks(parts))

    def successive() -> Iterator[T]:
        following = pool.submit(next, chunks, None)
        while (packed := following.result()) is not None:
            following = pool.submit(next, chunks, None)
            yield packed

    with ThreadPoolExecutor(1) as pool:
        try:
            yield successive()
        finally:
            stop.set()
