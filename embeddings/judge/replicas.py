"""Judges that predict: one base model, here or in a process a device, takes each one's weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from common.errors import Code, UserError
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.load import load_backbone
from embeddings.cache.memory import Store, kept
from embeddings.cache.shards import ragged
from embeddings.cache.tensor_files import DamagedError, read_tensors
from embeddings.frozen.pair_reader import Inputs
from embeddings.frozen.pair_replicas import inputs_from
from embeddings.frozen.pair_states import FINETUNE, PairStates, free_gpu
from embeddings.inference import BatchBudget, read_into_store
from embeddings.judge.config import JudgeConfig
from embeddings.judge.model import Judge
from embeddings.prompts.pairs import PackedPair
from embeddings.replicas import Replica, Replicas

JudgeReplica = Replica[PackedPair, torch.Tensor]


class JudgeReaders:
    """What reads with a run's judges, one after the other, on a base that is loaded once.

    LoRA and head are swapped in place. A base of another rank (a mean of judges has K times one
    judge's) takes the place of the last one.
    """

    def __init__(self, frozen: PairStates, shared: dict[Any, Any] | None) -> None:
        """Nothing is loaded yet.

        Args:
            frozen: says backbone, layers, devices, and what the layers get of a sequence.
            shared: where the base and all weights stay in memory; without it the base stays until
                ``release``, and weights are read from their files each time.
        """
        self.frozen, self.shared = frozen, shared
        self._own: dict[Any, Any] = {}
        self._workers: Replicas[PackedPair, torch.Tensor] | None = None
        self._workers_training: JudgeConfig | None = None

    def read(
        self,
        weights: Path,
        training: JudgeConfig,
        store: Store,
        sequences: Sequence[PackedPair],
        label: str,
    ) -> None:
        """Read sequences with a judge and store its logits, float32 (1, 3) each.

        Args:
            weights: file of the judge.
            training: as it was trained; a mean of judges has K times the rank and alpha.
            store: where to.
            sequences: those that the store lacks, longest first.
            label: of the progress bar.

        Raises:
            UserError: the weights are damaged, the base cannot be loaded, or memory does not
                suffice.
        """
        frozen = self.frozen
        load = partial(untrained, frozen.config, training, frozen.layers.end)
        first = sequences[-1:] if frozen.config.quantization != "none" else []
        if devices := frozen.devices:
            if self._workers is None or self._workers_training != training:
                self.release()
                there = partial(worker_replica, load, frozen.lower_folder, first)
                self._workers = Replicas(there, devices)
                self._workers_training = training
            self._workers.read_into(store, sequences, label, weights)
            return
        key = ("judge", frozen.name, training)
        if self.shared is None and key not in self._own:
            self.release()
        judge = kept(self._own if self.shared is None else self.shared, key, load)
        judge.load(kept(self.shared, ("weights", weights.parent), partial(judge_weights, weights)))
        replica = judge_replica(judge, frozen.inputs, first)
        read_into_store(store, sequences, replica.read, label, replica.budget, replica.arrays)

    def release(self) -> None:
        """End the processes, and give the base's memory back; what is shared stays."""
        if self._workers is not None:
            self._workers.__exit__()
            self._workers = None
        if self._own:
            self._own.clear()
            free_gpu()


def untrained(config: BackboneConfig, training: JudgeConfig, layers: int) -> Judge:
    """Load the backbone of a judge up to the last of ``layers``, which its head reads.

    Raises:
        UserError: it cannot be loaded.
    """
    return Judge(load_backbone(config, layers=layers), training)


def judge_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights that ``Judge.save`` wrote, by name.

    Raises:
        UserError: they are damaged.
    """
    try:
        return read_tensors(path, unsigned=True)[0]
    except DamagedError as error:
        raise UserError(
            Code.RUN_FILE_DAMAGED,
            f"{path} is damaged ({error}). Rerun `{FINETUNE}`: it trains that judge again.",
        ) from error


def judge_replica(judge: Judge, inputs: Inputs, first: Sequence[PackedPair]) -> JudgeReplica:
    """What reads with a trained judge.

    Args:
        judge: with its weights.
        inputs: what its layers get of a sequence.
        first: of a quantized backbone one sequence, to be read before threads do; else none.
    """
    read = partial(judge.read, inputs=inputs)
    if first:
        # bitsandbytes rearranges weights in their first pass: no two threads may do that.
        read(first)
    return Replica(read, BatchBudget(judge.batch_tokens), ragged)


def worker_replica(
    load: Callable[[], Judge], lower: Path | None, first: Sequence[PackedPair]
) -> JudgeReplica:
    """What a worker process reads with: a base that takes the weights that a job names.

    Args:
        load: loads the base there.
        lower: where the lower layers' output lies, if there are lower layers.
        first: as ``judge_replica`` has it.
    """
    judge, taken = load(), [Path()]
    replica = judge_replica(judge.eval(), inputs_from(lower), first)

    def take(weights: Path) -> None:
        if weights != taken[0]:
            judge.load(judge_weights(weights))
            taken[0] = weights

    return Replica(replica.read, replica.budget, replica.arrays, take)
