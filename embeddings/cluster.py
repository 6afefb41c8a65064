"""Reading with many machines: Ray Data actors that hold the model; one process writes the store.

A shard's items travel to an actor as one Arrow table, its numbers come back as one row, and the
process that began it all adds them to the store. A shard is named by its items and written whole,
so the order in which actors answer changes no byte, and what is killed goes on as without Ray.

Ray's own processes talk to each other by pickle, and trust whoever has the cluster's token, which
travels in clear: keep a cluster in a network of its own. No file of a run is read that way.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from arena.errors import UserError
from arena.progress import Progress
from embeddings.backbone import fingerprint, model_folder
from embeddings.config import BackboneConfig
from embeddings.planning import Plan
from embeddings.reader import AnswerReader
from embeddings.scoring import QUANTITIES, Item
from embeddings.store import SHARD_ITEMS, Writer

ROOT = Path(__file__).resolve().parents[1]

ARRAYS = {"ids": np.int32, "content": np.int64, "asked": np.int64, "bare": np.int32}
NUMBERS = ("last", "bare_length", "bare_start")

KINDS = {
    "keys": pa.binary(),
    "states": pa.large_binary(),
    "slots": pa.int64(),
    "likelihood": pa.binary(),
    "error": pa.string(),
}
"""Columns of an actor's answer, of which a row is a shard."""


def as_table(items: Sequence[Item]) -> pa.Table:
    """Items as columns; ``as_items`` gives them back."""
    columns: dict[str, pa.Array] = {"key": pa.array([i.key for i in items], pa.binary(32))}
    for name, dtype in ARRAYS.items():
        kind = pa.list_(pa.from_numpy_dtype(dtype))
        columns[name] = pa.array([getattr(i, name) for i in items], kind)
    for name in NUMBERS:
        columns[name] = pa.array([int(getattr(i, name)) for i in items], pa.int64())
    return pa.table(columns)


def as_items(table: pa.Table) -> list[Item]:
    """What ``as_table`` was given."""
    items = []
    for row in table.to_pylist():
        arrays = {name: np.array(row[name], dtype=dtype) for name, dtype in ARRAYS.items()}
        items.append(Item(**{**row, **arrays}))
    return items


@dataclass(frozen=True)
class Task:
    """What an actor needs beside the items."""

    config: BackboneConfig
    model: str
    """Fingerprint of the model that all must read with."""
    end_token: int
    opening: np.ndarray


class Reader:
    """An actor: one model, which reads shard after shard on its share of a machine."""

    def __init__(self, task: Task) -> None:
        """Load the model; what goes wrong is told with the first shard."""
        self.error = ""
        try:
            if fingerprint(model_folder(task.config)) != task.model:
                raise UserError(
                    f"backbone {task.config.name}: the model on {platform.node()} is another than "
                    "on the machine that gave the command: put the same files on both"
                )
            self.reader = AnswerReader(task.config, task.end_token, task.opening)
        except UserError as error:
            self.error = str(error)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Read one shard: a row of keys, states (float16), likelihood (float32), or an error."""
        found = {"keys": b"", "states": b"", "slots": 0, "likelihood": b"", "error": self.error}
        if not self.error:
            ((keys, arrays),) = self.reader.read(as_items(table))
            found = {
                "keys": b"".join(keys),
                "states": arrays["states"].tobytes(),
                "slots": arrays["states"].shape[1],
                "likelihood": arrays["likelihood"].tobytes(),
                "error": "",
            }
        return pa.table({n: pa.array([v], KINDS[n]) for n, v in found.items()})


@dataclass(frozen=True)
class Cluster:
    """Where and with how many actors to read.

    Attributes:
        address: of a Ray cluster, as ``ray.init`` takes it; "": this machine alone.
        actors: how many models; 0: one a GPU, or one a machine where the cluster has no GPU.
    """

    address: str = ""
    actors: int = 0

    def fill(
        self, store: Writer, items: Sequence[Item], config: BackboneConfig, packed: Plan
    ) -> None:
        """As ``evidence.Local.fill``, with the same bytes.

        Each call has a Ray session of its own, and its actors load the model anew: of more battles
        than a window that is once a window.

        Raises:
            UserError: Ray is missing, the cluster cannot be reached or is too small for so many
                actors, or the model cannot be had on one of its machines.
        """
        task = Task(config, fingerprint(model_folder(config)), packed.end_token, packed.opening)
        opening = len(packed.opening)
        parts = [items[i : i + SHARD_ITEMS] for i in range(0, len(items), SHARD_ITEMS)]
        tokens = {part[0].key: sum(item.tokens(opening) for item in part) for part in parts}
        with _ray(self.address) as ray:
            actors, share = shares(ray.nodes(), self.actors)
            answers = (
                ray.data.from_arrow([as_table(part) for part in parts])
                .map_batches(
                    Reader,
                    fn_constructor_args=(task,),
                    batch_size=None,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(size=actors),
                    **share,
                )
                .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
            )
            what = f"{config.name} reads with {actors} actors"
            with Progress(what, sum(tokens.values()), unit="tokens") as progress:
                for table in answers:
                    for row in table.to_pylist():
                        keys = _add(store, row)
                        progress.update(tokens[keys[0]])


def _add(store: Writer, row: dict[str, Any]) -> list[bytes]:
    """Add an actor's answer to the store; return its keys."""
    if row["error"]:
        raise UserError(row["error"])
    keys = [row["keys"][i : i + 32] for i in range(0, len(row["keys"]), 32)]
    likelihood = np.frombuffer(row["likelihood"], np.float32).reshape(len(keys), len(QUANTITIES))
    states = np.frombuffer(row["states"], np.float16).reshape(len(keys), row["slots"], -1)
    store.add(keys, {"states": states.copy(), "likelihood": likelihood.copy()})
    return keys


def shares(nodes: Sequence[dict[str, Any]], actors: int) -> tuple[int, dict[str, float]]:
    """How many actors, and what each takes of a machine: a GPU, or an equal share of the cores.

    Args:
        nodes: as ``ray.nodes`` gives them.
        actors: as many as asked for; 0: as suits the machines.

    Raises:
        UserError: the machines are too small for so many.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = sum(int(r.get("GPU", 0)) for r in resources)
    cores = [int(r.get("CPU", 0)) for r in resources if r.get("CPU", 0) >= 1]
    if actors > (gpus or sum(cores)) or not cores:
        raise UserError(
            f"the cluster has {gpus} GPUs and {sum(cores)} cores in {len(resources)} machines: "
            f"take --actors {gpus or sum(cores)} at most"
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
        import ray.data
    except ImportError as error:
        raise UserError(f"--engine ray needs Ray ({error}): pip install 'ray[data]'") from error
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
                "py_modules": [str(ROOT / room) for room in ("arena", "embeddings")],
                "env_vars": {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            },
        )
    except (OSError, RuntimeError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"no Ray cluster at {address or 'this machine'} ({first}): start one with "
            "`ray start --head`, give its token here too (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH), or leave out --ray-address"
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    except ray.exceptions.RayError as error:
        told = str(error).strip().splitlines()[-1]
        raise UserError(
            f"Ray's actors failed ({told}): the same command goes on from what is read; lower "
            "--actors if memory ran out"
        ) from error
    finally:
        ray.shutdown()
