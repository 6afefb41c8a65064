"""A frozen language model in memory: battles in, hidden states and likelihoods out, no disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import torch

from arena.feature_table import FeatureTable
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.load import load_tokenizer
from embeddings.backbone.runtime import TORCH, select_engine
from embeddings.cache.memory import MemoryStore, Store
from embeddings.cache.shards import ShardStore, as_keys, settings_hash
from embeddings.frozen.answer_reader import (
    AnswerNumbers,
    AnswerReader,
    answer_arrays,
    evidence_settings,
)
from embeddings.frozen.log_likelihood import QUANTITIES, likelihood_view
from embeddings.frozen.one_byte import as_float16
from embeddings.frozen.states import HiddenStates
from embeddings.inference import read_into_store
from embeddings.prompts.answers import PackedAnswer, PackedBattles, pack_battles


@dataclass(frozen=True)
class AnswerEvidence:
    """What the language model says about both answers of battles, in the battles' order."""

    states: HiddenStates
    likelihood: FeatureTable


class LanguageModel:
    """A backbone that is loaded once, reads answers, and remembers their numbers by content.

    Its numbers are those that ``embeddings.frozen.extract`` writes to disk, bit by bit on a CPU
    (on a GPU the last bits depend on which answers share a batch). Threads may share it; they take
    turns.
    """

    def __init__(
        self, config: BackboneConfig, engine: str = TORCH, store: ShardStore | None = None
    ) -> None:
        """Remember what to load; nothing is loaded until an answer must be read.

        Args:
            config: the backbone.
            engine: what runs it, ``torch`` or ``openvino``.
            store: answers that an extraction has read, if there are some; they are not read again.
        """
        self.config, self.engine = config, engine
        self._store = store
        self._reader: AnswerReader | None = None
        self._memory = MemoryStore()
        self._lock = Lock()

    @cached_property
    def source(self) -> str:
        """Hash of the model and of all settings that change its numbers; a store's name.

        Raises:
            UserError: the backbone cannot be had.
        """
        return settings_hash(self._settings)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return evidence_settings(self.config, self.engine)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.config)

    def read(self, battles: pd.DataFrame) -> AnswerEvidence:
        """Read both answers of battles, each distinct one once; known ones are not read again.

        Args:
            battles: rows of the canonical table with an empty ``reason``, n.

        Raises:
            UserError: the backbone cannot be had or run, or max_tokens does not fit it.
        """
        slots = self._settings["slots"]
        with self._lock:
            chunk = pack_battles(battles, self.config, self._tokenizer, self.source)
            missing = self._recall(self._memory.missing(chunk.answers))
            if missing:
                self._read_into(self._memory, missing, chunk)
            a, b = (self._numbers(keys) for keys in (chunk.key_a, chunk.key_b))
        return AnswerEvidence(
            HiddenStates(
                chunk.ids,
                slots,
                lambda slot, rows: (a.states[rows, slot], b.states[rows, slot]),
                self.source,
            ),
            likelihood_view(
                chunk.ids,
                a.likelihood,
                b.likelihood,
                unconditional=self.config.unconditional_tokens > 0,
            ),
        )

    def _recall(self, answers: Sequence[PackedAnswer]) -> Sequence[PackedAnswer]:
        """Take what the store has of answers into memory; those that it lacks are returned."""
        if self._store is None or not answers:
            return answers
        keys = [answer.key for answer in answers]
        places = self._store.find(as_keys(keys))
        stored = np.flatnonzero(places >= 0).tolist()
        if stored:
            self._memory.add(
                [keys[i] for i in stored],
                {
                    name: torch.from_numpy(self._store.rows(places[stored], name))
                    for name in AnswerNumbers._fields
                },
            )
        return [answer for answer, place in zip(answers, places, strict=True) if place < 0]

    def _numbers(self, keys: Sequence[bytes]) -> AnswerNumbers:
        """The numbers of answers in memory: float16 (n, slots, d), float32 (n, quantities)."""
        if not keys:
            slots = len(self._settings["slots"])
            return AnswerNumbers(
                np.empty((0, slots, 0), np.float16), np.empty((0, len(QUANTITIES)), np.float32)
            )
        places = self._memory.require(as_keys(keys))
        states, likelihood = (self._memory.rows(places, name) for name in AnswerNumbers._fields)
        return AnswerNumbers(as_float16(states), likelihood)

    def read_into(
        self, store: Store, answers: Sequence[PackedAnswer], chunk: PackedBattles
    ) -> None:
        """Read ``answers`` of ``chunk`` and add them to a store, shard by shard in their order.

        Raises:
            UserError: the backbone cannot be had, or the engine cannot run it.
        """
        with self._lock:
            self._read_into(store, answers, chunk)

    def _read_into(
        self, store: Store, answers: Sequence[PackedAnswer], chunk: PackedBattles
    ) -> None:
        if self._reader is None:
            select_engine(self.engine, self.config)
            self._reader = AnswerReader(
                self.config, chunk.end_token, chunk.shared_prefix, self.engine
            )
        reader, label = self._reader, f"{self.config.name} reads"
        read_into_store(store, answers, reader.read, label, reader.budget, answer_arrays)
