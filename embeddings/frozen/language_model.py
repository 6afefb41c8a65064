"""A frozen language model in memory: battles in, hidden states and likelihoods out, no disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from arena.feature_table import FeatureTable
from common.progress import Progress
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.load import load_tokenizer
from embeddings.backbone.runtime import TORCH, choose
from embeddings.cache.shards import ShardStore, as_keys, settings_hash
from embeddings.frozen.answer_reader import AnswerReader
from embeddings.frozen.extract import evidence_settings, likelihood_view
from embeddings.frozen.scoring import QUANTITIES
from embeddings.frozen.states import HiddenStates
from embeddings.prompts.answers import PackedAnswer, PackedBattles, pack_battles

REMEMBERED_ANSWERS = 4096
"""Answers whose numbers stay in memory, of Gemma-2-9B some 350 MB of states."""

QUIET_ANSWERS = 64
"""So many answers are read without a progress bar."""


@dataclass(frozen=True)
class AnswerEvidence:
    """What the language model says about both answers of battles, in the battles' order."""

    states: HiddenStates
    likelihood: FeatureTable


class AnswerNumbers(NamedTuple):
    """Of one answer, as ``Scorer.score`` gives them: float16 (slots, d), float32 (quantities,)."""

    states: np.ndarray
    likelihood: np.ndarray


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
        self._remembered: OrderedDict[bytes, AnswerNumbers] = OrderedDict()
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
        with self._lock:
            packed = pack_battles(battles, self.config, self._tokenizer, self.source)
            numbers = self._numbers(packed)
        row = {key: i for i, key in enumerate(numbers)}
        a, b = (
            np.array([row[key] for key in keys], dtype=np.intp)
            for keys in (packed.key_a, packed.key_b)
        )
        slots = self._settings["slots"]
        states = np.empty((0, len(slots), 0), dtype=np.float16)
        likelihood = np.empty((0, len(QUANTITIES)), dtype=np.float32)
        if numbers:
            states, likelihood = (
                np.stack(arrays) for arrays in zip(*numbers.values(), strict=True)
            )
        return AnswerEvidence(
            HiddenStates(
                packed.ids, slots, lambda slot: (states[a, slot], states[b, slot]), self.source
            ),
            likelihood_view(packed.ids, likelihood[a], likelihood[b]),
        )

    def _numbers(self, packed: PackedBattles) -> dict[bytes, AnswerNumbers]:
        """The numbers of every distinct answer, by key."""
        keys = [item.key for item in packed.items]
        numbers = {key: self._remembered[key] for key in keys if key in self._remembered}
        numbers |= self._stored([key for key in keys if key not in numbers])
        missing = [item for item in packed.items if item.key not in numbers]
        if missing:
            numbers |= self._read(missing, packed)
        for key, answer in numbers.items():
            self._remembered[key] = answer
            self._remembered.move_to_end(key)
        while len(self._remembered) > REMEMBERED_ANSWERS:
            self._remembered.popitem(last=False)
        return numbers

    def _stored(self, keys: Sequence[bytes]) -> dict[bytes, AnswerNumbers]:
        """The numbers of those answers that the store has, by key."""
        if self._store is None or not keys:
            return {}
        places = self._store.find(as_keys(keys))
        stored = np.flatnonzero(places >= 0)
        states = self._store.rows(places[stored], "states")
        likelihood = self._store.rows(places[stored], "likelihood")
        return {
            keys[i]: AnswerNumbers(*row)
            for i, *row in zip(stored.tolist(), states, likelihood, strict=True)
        }

    def _read(
        self, answers: Sequence[PackedAnswer], packed: PackedBattles
    ) -> dict[bytes, AnswerNumbers]:
        """The numbers of answers as the model reads them now, by key."""
        if self._reader is None:
            choose(self.engine, self.config)
            self._reader = AnswerReader(self.config, packed.end_token, packed.opening, self.engine)
        numbers: dict[bytes, AnswerNumbers] = {}
        many = len(answers) > QUIET_ANSWERS
        with (
            Progress(f"{self.config.name} reads", len(answers), unit="answers")
            if many
            else nullcontext()
        ) as progress:
            for keys, arrays in self._reader.read(
                answers, lambda batch: progress.update(len(batch)) if progress else None
            ):
                rows = zip(arrays["states"], arrays["likelihood"], strict=True)
                # A row's copy does not keep its whole shard in memory.
                numbers |= {
                    key: AnswerNumbers(states.copy(), likelihood.copy())
                    for key, (states, likelihood) in zip(keys, rows, strict=True)
                }
        return numbers
