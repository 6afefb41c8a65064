"""Reading with one model here, or with one in a process of its own on every visible card.

A shard's sequences go to a free process, its numbers come back, and the process that runs the
command, which holds the run's lock, writes them. A shard is named by its sequences and its batches
are cut within it, so neither the number of cards nor the order in which they finish changes a byte.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Self

import safetensors.torch
import torch

from common.device_workers import CPU, VISIBLE, Count, DeviceWorkers
from common.errors import Code, UserError
from common.progress import Progress
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import check_device
from embeddings.cache.memory import Store
from embeddings.cache.shards import as_keys
from embeddings.inference import (
    BatchBudget,
    FiniteCheck,
    Item,
    Numbers,
    read_into_store,
    read_shards,
    shards_of,
)

DEVICES = "TIEBREAK_DEVICES"
"""Names the devices that read, such as ``cuda:1,cuda:3``; one named twice has two models."""


@dataclass(frozen=True)
class Replica(Generic[Item, Numbers]):
    """A loaded model: in this process, in a worker process, or in one of Ray's actors.

    Attributes:
        read: gives a batch's numbers.
        budget: of a batch.
        arrays: makes a shard's arrays of its sequences' numbers.
        take: gives the model the weights of a file, where one base reads for many.
    """

    read: Callable[[Sequence[Item]], Sequence[Numbers]]
    budget: BatchBudget
    arrays: Callable[[Sequence[Numbers]], Mapping[str, torch.Tensor]]
    take: Callable[[Path], Any] | None = None


Job = tuple[Path | None, Sequence[Item]]
"""A file of weights, or none, and the shard that is read with them."""

Load = Callable[[], Replica[Item, Numbers]]
"""Loads a model onto the device of its process; a module's function, or a ``partial`` of one."""


def devices_for(config: BackboneConfig) -> tuple[str, ...]:
    """The devices that get a model of their own, each in a process; none: this process reads.

    Every visible card where there are several, unless one model is spread over all of them; or what
    the environment variable ``TIEBREAK_DEVICES`` names.

    Args:
        config: the backbone.

    Raises:
        UserError: the variable names what is not there.
    """
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = [f"cuda:{number}" for number in range(cards)]
    named = [name.strip() for name in os.environ.get(DEVICES, "").split(",") if name.strip()]
    for name in named:
        # Stores are named by the kind of device, so no CPU stands in for a card.
        if name not in (there or [CPU]):
            raise UserError(
                Code.OPTION_INVALID,
                f"{DEVICES}: {name} does not read here. Take names of {', '.join(there or [CPU])}.",
            )
    if config.device_map == "auto" and cards:
        return ()
    return tuple(named or there) if named or cards > 1 else ()


def check_devices(config: BackboneConfig) -> list[str]:
    """``check_device`` of every device that a backbone will be put on.

    Raises:
        UserError: as there, or the environment names a device that is not there.
    """
    places = [torch.device(name) for name in devices_for(config)]
    notes = [note for place in places for note in check_device(config, place)]
    return list(dict.fromkeys(notes)) if places else check_device(config)


def read_with(
    here: Load[Item, Numbers],
    there: Load[Item, Numbers],
    devices: Sequence[str],
    store: Store,
    sequences: Sequence[Item],
    label: str,
) -> None:
    """Read sequences with a model that is loaded for them, and store their numbers.

    Args:
        here: loads it in this process, where no device is named.
        there: loads the same in a worker process.
        devices: as ``devices_for`` gives them.
        store: where to.
        sequences: those that the store lacks, longest first.
        label: of the progress bar.

    Raises:
        UserError: the model cannot be loaded, or memory does not suffice.
    """
    if devices:
        with Replicas(there, devices) as replicas:
            replicas.read_into(store, sequences, label)
        return
    replica = here()
    read_into_store(store, sequences, replica.read, label, replica.budget, replica.arrays)


class Replicas(Generic[Item, Numbers]):
    """One model a device, each in a process; loaded when needed, ended with the context."""

    def __init__(self, load: Load[Item, Numbers], devices: Sequence[str]) -> None:
        """Nothing is loaded yet.

        Args:
            load: loads a model in its process.
            devices: as ``devices_for`` gives them, at least one.
        """
        self._devices = devices
        self._workers: DeviceWorkers[Job[Item], bytes] = DeviceWorkers(
            partial(_shard_reader, load), devices, torch.get_num_threads() // len(devices)
        )
        self._told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.__exit__(*error)

    def read_into(
        self, store: Store, sequences: Sequence[Item], label: str, weights: Path | None = None
    ) -> None:
        """Read sequences and store their numbers, shard by shard as they are done.

        Args:
            store: where to.
            sequences: those that the store lacks, longest first.
            label: of the progress bar.
            weights: file that each model takes first, where it is made for several.

        Raises:
            UserError: no process is left that can read, or too many of the first numbers are not
                finite.
        """
        if not self._told:
            print(f"{label} with a process each on {', '.join(self._devices)}", flush=True)
            self._told = True
        tokens, check = sum(s.tokens for s in sequences), FiniteCheck()
        with Progress(label, tokens, unit="tokens") as progress:
            jobs = [(weights, shard) for shard in shards_of(sequences)]
            for _, shard in self._workers.results(jobs, progress.update):
                add_shard(store, shard, check)


def check_own_card() -> None:
    """Check in a worker process that its card can be used: the CPU would take its place, silently.

    Raises:
        UserError: it cannot.
    """
    if os.environ.get(VISIBLE) and not torch.cuda.is_available():
        raise UserError(
            Code.GPU_UNSUPPORTED, "PyTorch cannot use this card in a process of its own."
        )


def _shard_reader(load: Load[Item, Numbers]) -> Callable[[Job[Item], Count], bytes]:
    """Load a model in a worker process.

    Raises:
        UserError: it cannot be loaded there.
    """
    check_own_card()
    replica = load()

    def read(job: Job[Item], count: Count) -> bytes:
        weights, shard = job
        if replica.take is not None and weights is not None:
            replica.take(weights)
        return read_shard(replica, shard, count)

    return read


def read_shard(
    replica: Replica[Item, Numbers], shard: Sequence[Item], count: Count = lambda _: None
) -> bytes:
    """Read one shard for the process that will write it.

    Args:
        replica: reads it.
        shard: as ``shards_of`` cuts them.
        count: called with the tokens of each batch that is done.

    Returns:
        Its keys and arrays as a safetensors file has them, for ``add_shard``.
    """
    ((_, numbers),) = read_shards(
        shard, replica.read, replica.budget, lambda batch: count(sum(s.tokens for s in batch))
    )
    keys = torch.from_numpy(as_keys([s.key for s in shard]).copy())
    saved: bytes = safetensors.torch.save({**replica.arrays(numbers), "keys": keys})
    return saved


def add_shard(store: Store, shard: bytes, check: FiniteCheck) -> list[bytes]:
    """Store what ``read_shard`` gave; its keys are returned.

    Raises:
        UserError: too many of the first numbers are not finite.
    """
    arrays: dict[str, Any] = safetensors.torch.load(shard)
    keys = [row.tobytes() for row in arrays.pop("keys").numpy()]
    check.add(arrays)
    store.add(keys, arrays)
    return keys
