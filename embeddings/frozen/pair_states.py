"""The frozen backbone's states of both answers in one sequence, as evidence of their own.

They are what the heads of ``embeddings.judge.model`` start from. Each slot is a pair of states that
change places when the answers do: of the last token, of the answer that stands first, of the answer
that stands second, each once with A before B and once with B before A.

``PairStates`` reads them; on disk they lie in the folder of the run's judges, and the view's
parquet file says which of them belong to which battles.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from common.errors import Code, UserError
from common.parquet import write_table
from common.run_dir import RunDir
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import store_suffix
from embeddings.backbone.layers import LayerRange
from embeddings.backbone.load import (
    load_tokenizer,
    model_config,
    model_folder,
    model_settings,
)
from embeddings.cache.memory import MOST_ITEMS, MemoryStore, Store, exclusive, kept
from embeddings.cache.shards import ShardStore, ShardWriter, as_keys, settings_hash
from embeddings.frozen.layer_cache import bytes_per_token, check_room
from embeddings.frozen.likelihood import recorded_config
from embeddings.frozen.pair_reader import BOTH_ANSWERS, token_ids
from embeddings.frozen.pair_replicas import (
    load_pair_reader,
    lower_replica,
    pair_replica,
    worker_replica,
)
from embeddings.frozen.states import HiddenStates, Rows, read_index, store_notes
from embeddings.prompts.pairs import PackedPair, Pairs, distinct, pack_pairs
from embeddings.replicas import devices_for, read_with

VIEW = "joint"
FINETUNE = "python pipelines/finetune.py"
"""The command that makes what is missing."""

FORWARD, SWAPPED = "key_forward", "key_swapped"

SIDES = {"last": (FORWARD, SWAPPED), "first": (FORWARD, SWAPPED), "second": (SWAPPED, FORWARD)}
"""Of each state, in which order of the battle it belongs to A, and in which to B."""

MOST_LOWER = 64
"""Sequences whose lower layers' output stays in memory after a call: a megabyte each, or more."""

STATES = (*SIDES, "difference")
"""States of a depth, in the order in which they are stored."""


class PairStates:
    """States of pairs in a frozen backbone, each sequence read once: on disk, or in memory.

    Attributes:
        name: of the store in memory: says all that changes the states.
        suffix: behind it on disk, see ``embeddings.backbone.device.store_suffix``.
        layers: which are read, and at which depth a judge's own begin.
    """

    def __init__(
        self,
        config: BackboneConfig,
        read_layers: str,
        pool: str = BOTH_ANSWERS,
        top_layers: int = 0,
        folder: Path | None = None,
        shared: dict[Any, Any] | None = None,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            config: the backbone; its ``max_tokens`` are those of the longest sequence.
            read_layers: fractions of its depth, as ``embeddings.judge.config`` has them.
            pool: of ``embeddings.frozen.pair_reader``.
            top_layers: the layers below so many are read first and their output kept; 0: none is.
            folder: where the stores' own folders lie; without it all stays in memory.
            shared: where models and what they read in memory are kept; without it a model is loaded
                anew each time, and its memory given back.

        Raises:
            UserError: the backbone cannot be had, or lacks such layers.
        """
        self.config, self.pool, self.shared = config, pool, shared
        self.suffix = store_suffix(config)
        self._folder, self._settings = folder, model_settings(config)
        depths = [float(fraction) for fraction in read_layers.split(",")]
        whole = model_config(model_folder(config)).num_hidden_layers
        self.layers = LayerRange.of(depths, top_layers, whole)
        self.name, self.store = self._open("frozen", pool=pool, reads=read_layers)
        self.lower: Store | None = None
        if top_layers:
            self._lower_name, self.lower = self._open("lower", begin=self.layers.begin)

    @classmethod
    def of_run(cls, run: RunDir, shared: dict[Any, Any]) -> PairStates:
        """Those of a run's view ``joint``, in memory.

        Raises:
            UserError: the run does not say how they were read.
        """
        recorded = run.read_record().get(VIEW)
        if recorded is None:
            raise UserError(
                Code.VIEW_OUTDATED,
                f"{run.folder} does not say how its view {VIEW} was read: run "
                f"`{FINETUNE} --pool answers --run {run.folder}` again",
            )
        config = with_room(recorded_config(recorded["backbone"]), recorded["max_tokens"])
        return cls(
            config, recorded["read_layers"], top_layers=recorded["top_layers"], shared=shared
        )

    def read(self, battles: pd.DataFrame) -> HiddenStates:
        """The states of battles; only what was not read yet is read.

        Args:
            battles: rows of the canonical table with an empty ``reason``, n.

        Raises:
            UserError: the backbone cannot be loaded, or memory does not suffice.
        """
        with exclusive(self.shared):
            tokenizer = kept(
                self.shared, ("tokenizer", self.config.source), lambda: load_tokenizer(self.config)
            )
            pairs = pack_pairs(battles, tokenizer, self.config.max_tokens)
            self.fill(distinct(pairs))
            arrays = {FORWARD: self.states(pairs.forward), SWAPPED: self.states(pairs.swapped)}
        names, columns = _slots(self.layers.reads)

        def part(number: int, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
            column, a, b = columns[number]
            return arrays[a][rows, column], arrays[b][rows, column]

        return HiddenStates(pairs.ids, names, part, self.name)

    def fill(self, sequences: Sequence[PackedPair]) -> None:
        """Read the states of sequences that are not there yet.

        Raises:
            UserError: the backbone cannot be loaded, or memory does not suffice.
        """
        missing = self.store.missing(sequences)
        if missing:
            self.fill_lower(missing)
            self._read(missing)
            free_gpu()

    def fill_lower(self, sequences: Sequence[PackedPair]) -> None:
        """Read what the lower layers give for sequences, where there are lower layers.

        Raises:
            UserError: the disk has no room, or the backbone cannot be loaded.
        """
        missing = self.lower_missing(sequences)
        if self.lower is not None and missing:
            self._read_lower(self.lower, missing)
            free_gpu()

    def lower_missing(self, sequences: Sequence[PackedPair]) -> list[PackedPair]:
        """The sequences of which the lower layers' output is not there; none without them."""
        return self.lower.missing(sequences) if self.lower is not None else []

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices that get a model of their own; none where what is read stays in memory.

        Raises:
            UserError: the environment names some that are not there.
        """
        return devices_for(self.config) if self._folder is not None else ()

    @property
    def lower_folder(self) -> Path | None:
        """Where the lower layers' output lies on disk, if it does."""
        return self.lower.folder if isinstance(self.lower, ShardWriter) else None

    def states(self, sequences: Sequence[PackedPair]) -> np.ndarray:
        """The states of sequences that were read, float16 (n, depths * len(STATES) or 1, d)."""
        if not sequences:
            rows = len(self.layers.reads) * (len(STATES) if self.pool == BOTH_ANSWERS else 1)
            return np.empty((0, rows, 0), dtype=np.float16)
        places = self.store.require(as_keys([s.key for s in sequences]))
        return self.store.rows(places, "states")

    def inputs(self, sequence: PackedPair) -> torch.Tensor:
        """What the layers that are kept get of a sequence: token ids, or the output of those below.

        Returns:
            int64 (n,), or (n, d) in the backbone's dtype.
        """
        return token_ids(sequence) if self.lower is None else self.lower.get(sequence.key)

    def _read(self, sequences: Sequence[PackedPair]) -> None:
        key = ("pair reader", self.name, self.layers.begin)
        load = partial(load_pair_reader, self.config, self.layers, self.pool)
        read_with(
            lambda: pair_replica(kept(self.shared, key, load), self.inputs),
            partial(worker_replica, load, self.lower_folder),
            self.devices,
            self.store,
            sequences,
            "frozen states",
        )

    def _read_lower(self, store: Store, sequences: Sequence[PackedPair]) -> None:
        if isinstance(store, ShardWriter):
            tokens = sum(len(s.ids) for s in sequences)
            check_room(store.folder, tokens * bytes_per_token(self.config))
        key, label = ("lower layers", self._lower_name), f"{self.config.name} lower layers"
        load = partial(lower_replica, self.config, self.layers.begin)
        read_with(lambda: kept(self.shared, key, load), load, self.devices, store, sequences, label)

    def _open(self, kind: str, **settings: object) -> tuple[str, Store]:
        name = f"{kind}-{settings_hash({**self._settings, **settings})}"
        if self._folder is not None:
            folder = self._folder / (name + self.suffix)
            return name, ShardWriter(folder, rerun_command=FINETUNE)
        most_items = MOST_LOWER if kind == "lower" else MOST_ITEMS
        return name, kept(self.shared, name, lambda: MemoryStore(most_items))


def with_room(config: BackboneConfig, max_tokens: int) -> BackboneConfig:
    """The configuration of a backbone that reads sequences of so many tokens."""
    room = max(config.batch_tokens, max_tokens)
    return replace(config, max_tokens=max_tokens, batch_tokens=room)


def free_gpu() -> None:
    """Give a dropped model's memory back to the GPU before the next is loaded."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def _slots(layers: Sequence[int | str]) -> tuple[list[str], list[tuple[int, str, str]]]:
    """Names of the slots; of each its place among the states, and the orders of A and of B."""
    names, columns = [], []
    for i, layer in enumerate(layers):
        for state, (a, b) in SIDES.items():
            names.append(f"layer{layer}.{state}")
            columns.append((i * len(STATES) + STATES.index(state), a, b))
    return names, columns


def write_joint(
    views: Path,
    split: str,
    table: Pairs,
    texts: str,
    source: str,
    depths: Sequence[int],
    suffix: str = "",
) -> None:
    """Write which states belong to which battles.

    Args:
        views: folder of the run's views.
        split: ``train`` or ``test``.
        table: packed battles, n.
        texts: ``arena.battle_table.texts_hash`` of the battles.
        source: name of ``PairStates`` that has read both orders.
        depths: layers of the states.
        suffix: behind the source, in the name of the folder that has them: float16 (items,
            len(depths) * len(STATES), d).
    """
    columns = {
        "id": pa.array(table.ids, pa.string()),
        FORWARD: pa.array([s.key for s in table.forward], pa.binary(32)),
        SWAPPED: pa.array([s.key for s in table.swapped], pa.binary(32)),
    }
    notes = store_notes(source, source + suffix)
    metadata = {"battles": texts, **notes, "depths": ",".join(map(str, depths))}
    write_table(
        views / VIEW / f"{split}.parquet", pa.table(columns).replace_schema_metadata(metadata)
    )


def read_joint(views: Path, judges: Path, split: str) -> HiddenStates:
    """The states of a split; the store is read when a part is.

    Args:
        views: folder of the run's views.
        judges: folder of the run's judges, where the store lies.
        split: ``train`` or ``test``.

    Raises:
        UserError: they are damaged, or the store lacks some.
    """
    path = views / VIEW / f"{split}.parquet"
    index = read_index(path, (FORWARD, SWAPPED), "depths", "frozen-[0-9a-f]{16}", FINETUNE)
    store = ShardStore(judges / index.store, FINETUNE)
    places = dict(zip((FORWARD, SWAPPED), map(store.require, index.keys), strict=True))
    names, columns = _slots(index.listed)

    def part(number: int, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        column, *orders = columns[number]
        a, b = (store.rows(places[order][rows], "states", column) for order in orders)
        return a, b

    return HiddenStates(index.ids, names, part, index.source)
