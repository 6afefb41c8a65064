"""Reading with many machines: Ray's actors hold the model; one process writes the store.

A shard's answers are sent to a free actor, its numbers come back, and the driver adds them to the
store. A shard is named by its answers and written whole, so the order in which actors finish
changes no byte, and a killed command resumes as it does without Ray.

Ray's own processes talk to each other by pickle, and trust whoever has the cluster's token, which
travels in clear: keep a cluster in a network of its own. No file of a run is read that way.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import Code, UserError, first_line
from common.progress import Progress
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.load import fingerprint, model_folder
from embeddings.backbone.runtime import TORCH
from embeddings.cache.memory import Store
from embeddings.frozen.device_readers import answer_replica
from embeddings.inference import FiniteCheck, shards_of
from embeddings.prompts.answers import PackedAnswer, PackedBattles
from embeddings.replicas import add_shard, read_shard

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = ("common", "arena", "embeddings")
"""Our code that the workers need."""

RETRIES = 3
"""Restarts of an actor, and further attempts at a shard, after a process or machine died."""


@dataclass(frozen=True)
class Task:
    """What an actor needs besides the answers."""

    config: BackboneConfig
    model: str
    """Fingerprint of the model that all must read with."""
    end_token: int
    shared_prefix: np.ndarray


class Reader:
    """An actor: one model, which reads shard after shard on its share of a machine."""

    def __init__(self, task: Task) -> None:
        """Load the model; ``trouble`` says what went wrong."""
        self._trouble: UserError | None = None
        try:
            if fingerprint(model_folder(task.config)) != task.model:
                raise UserError(
                    Code.RAY_MODEL_DIFFERS,
                    f"backbone {task.config.name}: the model on {platform.node()} is another than "
                    "on the machine that runs the command. Put the same files on both.",
                )
            self._replica = answer_replica(task.config, task.end_token, task.shared_prefix, TORCH)
        except UserError as error:
            self._trouble = error

    def trouble(self) -> UserError | None:
        """Why it cannot read; None where it can."""
        return self._trouble

    def read(self, answers: Sequence[PackedAnswer]) -> bytes:
        """Read one shard, for ``add_shard``."""
        return read_shard(self._replica, answers)


class RayWorkers:
    """Actors that read; they start with the first answer and stop when the context ends."""

    engine = TORCH

    def __init__(self, config: BackboneConfig, address: str = "", actors: int = 0) -> None:
        """Where and with how many actors to read.

        Args:
            config: the backbone.
            address: of a Ray cluster, as ``ray.init`` takes it; "": this machine alone.
            actors: how many models; 0: one a GPU, or one a machine where the cluster has no GPU.
        """
        self.config = config
        self._address, self._actors = address, actors
        self._session = ExitStack()
        self._pool: Any = None

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._session.__exit__(*error)

    def read_into(
        self, store: Store, answers: Sequence[PackedAnswer], chunk: PackedBattles
    ) -> None:
        """As ``LanguageModel.read_into``, with the same bytes.

        Raises:
            UserError: Ray is missing, the cluster cannot be reached or is too small for so many
                actors, or the model cannot be had on one of its machines.
        """
        if self._pool is None:
            model = fingerprint(model_folder(self.config))
            task = Task(self.config, model, chunk.end_token, chunk.shared_prefix)
            self._pool = self._started(task)
        parts = shards_of(answers)
        tokens = {part[0].key: sum(answer.tokens for answer in part) for part in parts}
        shards = self._pool.map_unordered(lambda actor, part: actor.read.remote(part), parts)
        total, check = sum(tokens.values()), FiniteCheck()
        with Progress(f"{self.config.name} reads", total, unit="tokens") as progress:
            for shard in shards:
                progress.update(tokens[add_shard(store, shard, check)[0]])

    def _started(self, task: Task) -> Any:
        """A pool of actors that have loaded the model."""
        ray = self._session.enter_context(_ray(self._address))
        actors, share = shares(ray.nodes(), self._actors)
        print(f"{actors} actors load {task.config.name}", flush=True)
        kept = {"max_restarts": RETRIES, "max_task_retries": RETRIES}
        reader = ray.remote(Reader).options(**kept, **share)
        started = [reader.remote(task) for _ in range(actors)]
        for trouble in ray.get([actor.trouble.remote() for actor in started]):
            if trouble:
                raise trouble
        return ray.util.ActorPool(started)


def shares(nodes: Sequence[dict[str, Any]], actors: int) -> tuple[int, dict[str, float]]:
    """How many actors, and what each takes of a machine: a GPU, or an equal share of the cores.

    Args:
        nodes: as ``ray.nodes`` gives them.
        actors: their number; 0: as suits the machines.

    Raises:
        UserError: the machines are too small for so many.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = sum(int(r.get("GPU", 0)) for r in resources)
    cores = [int(r.get("CPU", 0)) for r in resources if r.get("CPU", 0) >= 1]
    if actors > (gpus or sum(cores)) or not cores:
        raise UserError(
            Code.RAY_TOO_SMALL,
            f"The cluster has {gpus} GPUs and {sum(cores)} cores in {len(resources)} machines. "
            f"Take --actors {gpus or sum(cores)} at most.",
        )
    if gpus:
        return actors or gpus, {"num_gpus": 1}
    actors = actors or len(cores)
    share = next(
        c for c in range(max(cores), 0, -1) if sum(machine // c for machine in cores) >= actors
    )
    return actors, {"num_cpus": share}


@contextmanager
def _ray(address: str) -> Iterator[Any]:
    """Ray with our code in its workers, without telemetry and downloads; left at the end."""
    # Ray reads these when it is imported.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.util
    except ImportError as error:
        raise UserError(
            Code.RAY_MISSING, f"--engine ray needs Ray ({error}). Run: pip install ray"
        ) from error
    host, _, port = address.rpartition("/")[2].rpartition(":")
    try:
        if port.isdigit():
            # Ray itself tries for minutes.
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(
            address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={
                "py_modules": [str(ROOT / package) for package in PACKAGES],
                "env_vars": {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            },
        )
    except (OSError, RuntimeError, ValueError) as error:
        first = first_line(error)
        raise UserError(
            Code.RAY_UNREACHABLE,
            f"There is no Ray cluster at {address or 'this machine'} ({first}). Start one with "
            "`ray start --head`, give its token here too (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH), or leave out --ray-address.",
        ) from error
    try:
        yield ray
    except ray.exceptions.RayError as error:
        told = str(error).strip().splitlines()[-1]
        raise UserError(
            Code.RAY_ACTORS_FAILED,
            f"Ray's actors failed ({told}). Rerun the command; finished work is reused. Lower "
            "--actors if memory ran out.",
        ) from error
    finally:
        ray.shutdown()
