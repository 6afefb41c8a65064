"""From battles to the language model's evidence on disk: made once, kept by content."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Event
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from arena.battle_table import TextsHash
from arena.feature_table import write_feature_tables
from common.parquet import write_table
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import store_suffix
from embeddings.backbone.load import load_tokenizer
from embeddings.cache.memory import Store
from embeddings.cache.shards import ShardWriter, as_keys, settings_hash
from embeddings.frozen import chunks
from embeddings.frozen.answer_reader import evidence_settings
from embeddings.frozen.log_likelihood import QUANTITIES, likelihood_view
from embeddings.frozen.states import store_notes
from embeddings.prompts.answers import PackedAnswer, PackedBattles, pack_battles

NAMED = 10
"""Battles that one line names at most."""


class Reader(Protocol):
    """What reads answers: ``LanguageModel`` here, ``DeviceReaders``, or ``RayWorkers``."""

    config: BackboneConfig
    engine: str

    def read_into(
        self, store: Store, answers: Sequence[PackedAnswer], chunk: PackedBattles
    ) -> None:
        """Read ``answers`` of ``chunk`` and add them to the store, shard by shard in their order.

        Raises:
            UserError: the backbone cannot be had or run.
        """


def extract(
    parts: Iterable[pd.DataFrame], rows: int, model: Reader, folder: Path, split: str
) -> None:
    """Make all evidence of these battles that is not there yet, and write their two tables.

    Writes ``folder/hidden/<settings>/*.safetensors`` (the store), ``folder/hidden/<split>.parquet``
    (id, key_a, key_b in the battles' order) and ``folder/likelihood/<split>.parquet`` (a view).
    Memory holds the tokens of two chunks of battles and some hundred bytes of every battle. Killed
    at any moment, the next call loses at most one shard's work and ends with the same bytes.

    Args:
        parts: successive rows of the canonical table with an empty ``reason``.
        rows: how many there are in all, or a bound; for people.
        model: reads the answers; its engine is in the store's address, for its roundings are its
            own.
        folder: the run's views.
        split: ``train`` or ``test``.

    Raises:
        UserError: the backbone cannot be had or run, or max_tokens does not fit it.
    """
    settings = evidence_settings(model.config, model.engine)
    source = settings_hash(settings)
    name = source + store_suffix(model.config)
    tokenizer, texts = load_tokenizer(model.config), TextsHash()

    def pack(stop: Event, battles: pd.DataFrame) -> PackedBattles:
        texts.add(battles)
        return pack_battles(battles, model.config, tokenizer, source, stop)

    keys: list[pa.Table] = []
    quantities: list[tuple[np.ndarray, np.ndarray]] = []
    done = 0
    with chunks.packed_ahead(parts, pack) as packed_chunks:
        store = ShardWriter(folder / "hidden" / name, settings)
        for chunk in packed_chunks:
            missing = store.missing(chunk.answers)
            _announce(split, chunk, missing, done, rows)
            if missing:
                model.read_into(store, missing, chunk)
            keys.append(_key_table(chunk))
            quantities.append((_likelihood(store, chunk.key_a), _likelihood(store, chunk.key_b)))
            done += len(chunk.ids)

    views = (
        likelihood_view(
            table["id"].to_pylist(), a, b, unconditional=model.config.unconditional_tokens > 0
        )
        for table, (a, b) in zip(keys, quantities, strict=True)
    )
    path = folder / "likelihood" / f"{split}.parquet"
    write_feature_tables(path, views, texts.digest, source)
    slots = ",".join(settings["slots"])
    notes = {"battles": texts.digest(), **store_notes(source, name), "slots": slots}
    table = pa.concat_tables(keys).combine_chunks().replace_schema_metadata(notes)
    not_finite = [np.isnan(a).all(axis=1) | np.isnan(b).all(axis=1) for a, b in quantities]
    warn_non_finite(
        split, table["id"].to_pylist(), np.concatenate(not_finite), "hidden and likelihood"
    )
    write_table(folder / "hidden" / f"{split}.parquet", table)


def _announce(
    split: str, chunk: PackedBattles, missing: Sequence[PackedAnswer], done: int, rows: int
) -> None:
    """Say what of a chunk will be read; ``done`` battles of ``rows`` came before it."""
    several = done or rows > chunks.CHUNK
    which = f"battles {done + 1:,}-{done + len(chunk.ids):,} of {rows:,}: " if several else ""
    print(
        f"{split}: {which}{len(chunk.answers):,} distinct answers, {len(missing):,} to read, "
        f"{sum(answer.tokens for answer in missing):,} tokens",
        flush=True,
    )


def _key_table(chunk: PackedBattles) -> pa.Table:
    """Which stored answers belong to which battles."""
    return pa.table(
        {
            "id": pa.array(chunk.ids, pa.string()),
            "key_a": pa.array(chunk.key_a, pa.binary(32)),
            "key_b": pa.array(chunk.key_b, pa.binary(32)),
        }
    )


def _likelihood(store: ShardWriter, keys: Sequence[bytes]) -> np.ndarray:
    """The stored quantities of answers, float32 (n, len(QUANTITIES))."""
    places = store.require(as_keys(keys))
    return store.rows(places, "likelihood").reshape(-1, len(QUANTITIES))


def warn_non_finite(split: str, ids: Sequence[str], not_finite: np.ndarray, columns: str) -> None:
    """Say for which battles the model gave no finite numbers.

    Args:
        split: ``train`` or ``test``.
        ids: battle ids, n.
        not_finite: bool (n,).
        columns: which of theirs stay empty, for people.
    """
    names = [ids[i] for i in np.flatnonzero(not_finite).tolist()]
    if names:
        shown = ", ".join(ascii(name) for name in names[:NAMED])
        print(
            f"{split}: the model's numbers for {len(names):,} battles are not finite, their "
            f"{columns} columns stay empty: id {shown}"
            + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""),
            file=sys.stderr,
        )
