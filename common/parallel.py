"""Worker processes, and the memory that they took."""

from __future__ import annotations

import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

import loky

Job = TypeVar("Job")
Result = TypeVar("Result")

KIB = 1 / 1024 if sys.platform == "darwin" else 1.0
"""The unit of ``ru_maxrss`` in KiB; see getrusage(2)."""


def ignore_interrupts() -> None:
    """In a worker: leave Ctrl-C to the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Workers:
    """Processes that compute, ended with the context; one is this process itself."""

    def __init__(self, number: int) -> None:
        """``number`` of processes."""
        self._pool: loky.ProcessPoolExecutor | None = None
        if number > 1:
            self._pool = loky.ProcessPoolExecutor(number, initializer=ignore_interrupts)

    def map(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """Apply a module's function to each job, in order; a killed process costs only time.

        Worker processes start at once, this process when the first result is requested.
        """
        started: Iterator[Result] = iter(())
        if self._pool is not None:
            try:
                started = self._pool.map(function, jobs)
            except loky.BrokenProcessPool:
                self._go_on_alone()
        return self._results(started, function, jobs)

    def _results(
        self, started: Iterator[Result], function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[Result]:
        done = 0
        try:
            for result in started:
                yield result
                done += 1
        except loky.BrokenProcessPool:
            self._go_on_alone()
        yield from map(function, jobs[done:])

    def _go_on_alone(self) -> None:
        if self._pool is not None:
            print(
                "a worker process was killed, perhaps for lack of memory; one process does the rest"
            )
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(kill_workers=True)
            self._pool = None


def peak_mib() -> float:
    """Peak resident memory of this process or of a child process that has ended, in MiB."""
    others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * KIB
    return max(own_peak_mib(), others / 1024)


def own_peak_mib() -> float:
    """Peak resident memory of this process, in MiB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux ru_maxrss includes the memory of the parent process at the fork; VmHWM does not.
        match = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        own = float(match[1]) if match else own
    return own / 1024
