"""One worker process a device: jobs go to whichever is free, and one that dies costs only time.

A process sees its own device alone (``CUDA_VISIBLE_DEVICES``), so no code in it need be told which
one that is. Each has a pipe of its own: a queue that several share stays locked when one of them is
killed. Processes are loky's, which do not run the main module again.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Self, TypeVar

from loky.backend.process import LokyProcess

from common.errors import Code, UserError

Job = TypeVar("Job")
Result = TypeVar("Result")

Count = Callable[[int], Any]
"""Takes how much more of a job is done."""

OF_A_DEVICE = (Code.OUT_OF_MEMORY, Code.GPU_UNSUPPORTED)
"""Mistakes that another device may not make; any other ends all work at once."""

VISIBLE = "CUDA_VISIBLE_DEVICES"

CPU = "cpu"

PATIENCE = 10
"""Seconds that a process gets to end by itself."""


@dataclass
class _Worker:
    """A process, from its start on."""

    device: str
    process: LokyProcess
    pipe: Connection
    job: Any = None
    loaded: bool = False
    counted: int = 0
    """How much of its job was counted as done."""

    @property
    def free(self) -> bool:
        """Whether it waits for a job."""
        return self.loaded and self.job is None


class DeviceWorkers(Generic[Job, Result]):
    """Processes that do jobs, one a device; they start when needed and end with the context."""

    def __init__(
        self,
        load: Callable[[], Callable[[Job, Count], Result]],
        devices: Sequence[str],
        cores: int,
    ) -> None:
        """Nothing is started yet.

        Args:
            load: called once in each process; gives what does a job. Pickled, as jobs and results.
            devices: ``cuda:0``, ``cuda:1`` …, as this process counts them, or ``cpu``.
            cores: that each process may use.
        """
        self._load, self._cores = load, max(1, cores)
        self._unused = deque(devices)
        self._workers: list[_Worker] = []
        self._trouble: UserError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def results(
        self, jobs: Sequence[Job], count: Count = lambda _: None
    ) -> Iterator[tuple[Job, Result]]:
        """Do each job once, in no fixed order; the first ones are started first.

        Where a process is killed or fails, the others do its job; one line says so.

        Args:
            jobs: what to do.
            count: called in this process with what is done; what a lost process had done is taken
                back.

        Raises:
            UserError: a process raised one that all would; or none is left.
        """
        waiting, left = deque(jobs), len(jobs)
        while left:
            while self._unused and len(self._workers) < left:
                self._start(self._unused.popleft())
            if not self._workers:
                assert self._trouble is not None
                raise self._trouble
            for worker in [w for w in self._workers if w.free][: len(waiting)]:
                worker.job, worker.counted = waiting.popleft(), 0
                try:
                    worker.pipe.send(worker.job)
                except OSError:
                    self._lose(worker, None, waiting, count)
            busy = {worker.pipe: worker for worker in self._workers if not worker.free}
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                try:
                    kind, value = worker.pipe.recv()
                # A killed one's pipe ends, perhaps within a message.
                except (EOFError, OSError):
                    kind, value = "failed", None
                if isinstance(value, UserError) and value.code not in OF_A_DEVICE:
                    raise value
                if kind == "failed":
                    self._lose(worker, value, waiting, count)
                elif kind == "count":
                    worker.counted += value
                    count(value)
                elif kind == "loaded":
                    worker.loaded = True
                else:
                    job, worker.job = worker.job, None
                    left -= 1
                    yield job, value

    def _start(self, device: str) -> None:
        ours, theirs = Pipe()
        env = {
            VISIBLE: visible_to(device),
            "OMP_NUM_THREADS": str(self._cores),
            # What it prints is not lost when it is ended.
            "PYTHONUNBUFFERED": "1",
        }
        process = LokyProcess(
            target=_serve, args=(theirs, self._load), name=device, daemon=True, env=env
        )
        # A process begins with the signals blocked that its parent blocks: Ctrl-C is the parent's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
            self._workers.append(_Worker(device, process, ours))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # Else the pipe would not end with the process.
        theirs.close()

    def _lose(
        self, worker: _Worker, error: UserError | str | None, waiting: deque[Job], count: Count
    ) -> None:
        """Go on without a process that failed with ``error``, or was killed."""
        # One that lost its pipe ends by itself; CUDA may keep one that failed.
        worker.process.join(0 if error else PATIENCE)
        worker.process.terminate()
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        if worker.job is not None:
            waiting.appendleft(worker.job)
            count(-worker.counted)
        code = worker.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        reason = str(error or f"its process {how}")
        self._trouble = (
            error
            if isinstance(error, UserError)
            else UserError(
                Code.WORKERS_FAILED,
                f"{worker.device}: {reason}, and no other worker process is left. Rerun the "
                "command; finished work is reused. Lower batch_tokens if memory ran out.",
            )
        )
        others = [*(w.device for w in self._workers), *self._unused]
        if others:
            print(
                f"{worker.device} is out of use: {reason}; the work goes on with "
                f"{', '.join(others)}",
                file=sys.stderr,
                flush=True,
            )


def visible_to(device: str) -> str:
    """What ``CUDA_VISIBLE_DEVICES`` must be for a process that sees this device alone.

    Args:
        device: ``cuda:N`` as this process counts, or ``cpu``.
    """
    if device == CPU:
        return ""
    number = int(device.partition(":")[2])
    own = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return own[number] if own else str(number)


def _serve(pipe: Connection, load: Callable[[], Callable[[Job, Count], Result]]) -> None:
    """The life of a worker process: do what comes, until the pipe ends."""
    # It ends with the process that started this one; whatever is sent then fails.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            work = load()
            pipe.send(("loaded", None))
            while True:
                job = pipe.recv()
                pipe.send(("result", work(job, lambda done: pipe.send(("count", done)))))
        except UserError as error:
            pipe.send(("failed", error))
        # Whatever it is, CUDA may be of no use in this process any more.
        except Exception as error:
            first = (str(error).strip() or "no message").splitlines()[0]
            pipe.send(("failed", f"{type(error).__name__}: {first}"))
