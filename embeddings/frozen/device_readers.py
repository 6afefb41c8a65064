"""Reading answers with one process a card: the counterpart of ``ray_workers`` on one machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Self

import numpy as np

from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.runtime import select_engine
from embeddings.cache.memory import Store
from embeddings.frozen.answer_reader import AnswerNumbers, AnswerReader, answer_arrays
from embeddings.prompts.answers import PackedAnswer, PackedBattles
from embeddings.replicas import Replica, Replicas


class DeviceReaders:
    """One backbone a device; loaded with the first answer, ended with the context."""

    def __init__(self, config: BackboneConfig, engine: str, devices: Sequence[str]) -> None:
        """Nothing is loaded yet.

        Args:
            config: the backbone.
            engine: what runs it, ``torch`` or ``openvino``.
            devices: as ``embeddings.replicas.devices_for`` gives them, at least one.
        """
        self.config, self.engine = config, engine
        self._devices = devices
        self._session = ExitStack()
        self._replicas: Replicas[PackedAnswer, AnswerNumbers] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._session.__exit__(*error)

    def read_into(
        self, store: Store, answers: Sequence[PackedAnswer], chunk: PackedBattles
    ) -> None:
        """As ``LanguageModel.read_into``, with the same bytes.

        Raises:
            UserError: the backbone cannot be had or run, or no process is left.
        """
        if self._replicas is None:
            select_engine(self.engine, self.config)
            load = partial(
                answer_replica, self.config, chunk.end_token, chunk.shared_prefix, self.engine
            )
            self._replicas = self._session.enter_context(Replicas(load, self._devices))
        self._replicas.read_into(store, answers, f"{self.config.name} reads")


def answer_replica(
    config: BackboneConfig, end_token: int, shared_prefix: np.ndarray, engine: str
) -> Replica[PackedAnswer, AnswerNumbers]:
    """Load a backbone that reads answers; the arguments are those of ``AnswerReader``.

    Raises:
        UserError: the backbone cannot be had, or the engine cannot run it.
    """
    reader = AnswerReader(config, end_token, shared_prefix, engine)
    return Replica(reader.read, reader.budget, answer_arrays)
