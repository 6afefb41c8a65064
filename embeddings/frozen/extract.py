"""Evidence of the language model about battles: made once, kept by content, read as views."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from arena.battle_table import TextsHash
from arena.feature_table import Column, FeatureTable, write_feature_tables
from common.parquet import write_table
from common.progress import Progress
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.layers import layer_numbers
from embeddings.backbone.load import fingerprint, load_tokenizer, model_config, model_folder
from embeddings.backbone.runtime import TORCH
from embeddings.cache.shards import ShardWriter, as_keys, settings_hash
from embeddings.frozen import chunks as windows
from embeddings.frozen.answer_reader import AnswerReader
from embeddings.frozen.scoring import QUANTITIES, SCORING_VERSION, slot_names
from embeddings.prompts.answers import PackedAnswer, PackedBattles, pack_battles
from embeddings.prompts.chat_template import TEMPLATE_VERSION

NAMED = 10
"""Battles that one line names at most."""


Fill = Callable[[ShardWriter, Sequence[PackedAnswer], BackboneConfig, PackedBattles], None]
"""Reads items of a plan with a backbone and adds them to the store: here, or with a cluster."""


def evidence_settings(config: BackboneConfig, engine: str = TORCH) -> dict[str, Any]:
    """All that changes the numbers that a backbone gives: what a store's name is the hash of.

    Args:
        config: the backbone.
        engine: what runs it.

    Raises:
        UserError: the backbone cannot be had.
    """
    model = model_folder(config)
    settings: dict[str, Any] = {
        "model": fingerprint(model),
        "dtype": config.dtype,
        "quantization": config.quantization,
        "slots": slot_names(layer_numbers(config.layers, model_config(model).num_hidden_layers)),
        "scoring": SCORING_VERSION,
        "template": TEMPLATE_VERSION,
    }
    if engine != TORCH:
        settings["engine"] = engine
    return settings


def extract(
    parts: Iterable[pd.DataFrame],
    rows: int,
    config: BackboneConfig,
    folder: Path,
    split: str,
    engine: str = TORCH,
    read: Fill | None = None,
) -> None:
    """Make all evidence of these battles that is not there yet, and write their two views.

    Writes ``folder/hidden/<settings>/*.safetensors`` (the store), ``folder/hidden/<split>.parquet``
    (id, key_a, key_b in the battles' order) and ``folder/likelihood/<split>.parquet`` (a view).
    Battles are packed and read by windows, so that memory holds the tokens of two windows and some
    hundred bytes of every battle. Killed at any moment, the next call loses at most one shard's
    work and ends with the same bytes.

    Args:
        parts: successive rows of the canonical table with an empty ``reason``.
        rows: how many there are in all, or a bound; for people.
        config: the backbone.
        folder: the run's views.
        split: ``train`` or ``test``.
        engine: what runs the backbone, ``torch`` or ``openvino``; its roundings are its own, so the
            store's address holds it.
        read: what reads the answers that are not there, called once a window where there are some;
            ``Local.fill`` unless given.

    Raises:
        UserError: the backbone cannot be had or run, or max_tokens does not fit it.
    """
    settings = evidence_settings(config, engine)
    name = settings_hash(settings)
    tokenizer, texts = load_tokenizer(config), TextsHash()
    read = read or Local(engine).fill
    tables: list[pa.Table] = []
    lost: list[np.ndarray] = []

    def pack(stop: Event, battles: pd.DataFrame) -> PackedBattles:
        texts.add(battles)
        return pack_battles(battles, config, tokenizer, name, stop)

    def views(plans: Iterable[PackedBattles], store: ShardWriter) -> Iterator[FeatureTable]:
        done = 0
        for packed in plans:
            todo = store.lacking(packed.items)
            _announce(split, packed, todo, done, rows)
            done += len(packed.ids)
            if todo:
                read(store, todo, config, packed)
            a, b = (
                store.rows(store.require(as_keys(keys)), "likelihood").reshape(-1, len(QUANTITIES))
                for keys in (packed.key_a, packed.key_b)
            )
            lost.append(np.isnan(a).all(axis=1) | np.isnan(b).all(axis=1))
            tables.append(_keys(packed))
            yield likelihood_view(packed.ids, a, b)

    with windows.packed_ahead(parts, pack) as plans:
        store = ShardWriter(folder / "hidden" / name, settings)
        path = folder / "likelihood" / f"{split}.parquet"
        write_feature_tables(path, views(plans, store), texts.digest, name)
    notes = {"battles": texts.digest(), "source": name, "slots": ",".join(settings["slots"])}
    table = pa.concat_tables(tables).combine_chunks().replace_schema_metadata(notes)
    ids = table["id"].to_pylist()
    warn_non_finite(split, ids, np.concatenate(lost), "hidden and likelihood")
    write_table(folder / "hidden" / f"{split}.parquet", table)


def _announce(
    split: str, packed: PackedBattles, todo: Sequence[PackedAnswer], done: int, rows: int
) -> None:
    """Say what of a window will be read; ``done`` battles of ``rows`` came before it."""
    several = done or rows > windows.WINDOW
    which = f"battles {done + 1:,}-{done + len(packed.ids):,} of {rows:,}: " if several else ""
    print(
        f"{split}: {which}{len(packed.items):,} distinct answers, {len(todo):,} to read, "
        f"{_tokens(todo, packed):,} tokens",
        flush=True,
    )


def _tokens(items: Sequence[PackedAnswer], packed: PackedBattles) -> int:
    return sum(item.tokens(len(packed.opening)) for item in items)


def _keys(packed: PackedBattles) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(packed.ids, pa.string()),
            "key_a": pa.array(packed.key_a, pa.binary(32)),
            "key_b": pa.array(packed.key_b, pa.binary(32)),
        }
    )


class Local:
    """Reading in this process, with a backbone that is loaded for the first item and kept."""

    def __init__(self, engine: str = TORCH) -> None:
        """``engine`` runs the backbone, ``torch`` or ``openvino``."""
        self._engine = engine
        self._reader: AnswerReader | None = None

    def fill(
        self,
        store: ShardWriter,
        items: Sequence[PackedAnswer],
        config: BackboneConfig,
        packed: PackedBattles,
    ) -> None:
        """Read ``items`` of ``packed`` and add them to the store, shard by shard in their order.

        Raises:
            UserError: the backbone cannot be had, or the engine cannot run it.
        """
        if self._reader is None:
            self._reader = AnswerReader(config, packed.end_token, packed.opening, self._engine)
        total = _tokens(items, packed)
        with Progress(f"{config.name} reads", total, unit="tokens") as progress:
            for keys, arrays in self._reader.read(
                items, lambda batch: progress.update(_tokens(batch, packed))
            ):
                store.add(keys, arrays)


def likelihood_view(ids: Sequence[str], a: np.ndarray, b: np.ndarray) -> FeatureTable:
    """The likelihood view: of every quantity the difference, its size, and the sum.

    Args:
        ids: battle ids, n.
        a: quantities of answer A, float32 (n, len(QUANTITIES)).
        b: the same of answer B.
    """
    columns: dict[str, Column] = {}
    blocks = []
    for i, quantity in enumerate(QUANTITIES):
        difference = a[:, i] - b[:, i]
        blocks += [difference, np.abs(difference), a[:, i] + b[:, i]]
        columns[f"{quantity}.diff"] = Column("anti", "likelihood")
        columns[f"{quantity}.absdiff"] = Column("sym", "likelihood")
        columns[f"{quantity}.sum"] = Column("sym", "likelihood")
    return FeatureTable(ids, np.stack(blocks, axis=1), columns)


def warn_non_finite(split: str, ids: Sequence[str], lost: np.ndarray, columns: str) -> None:
    """Say for which battles the model gave no finite numbers.

    Args:
        split: ``train`` or ``test``.
        ids: battle ids, n.
        lost: bool (n,).
        columns: which of theirs stay empty, for people.
    """
    names = [ids[i] for i in np.flatnonzero(lost).tolist()]
    if names:
        shown = ", ".join(ascii(name) for name in names[:NAMED])
        print(
            f"{split}: the model's numbers for {len(names):,} battles are not finite, their "
            f"{columns} columns stay empty: id {shown}"
            + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""),
            file=sys.stderr,
        )
