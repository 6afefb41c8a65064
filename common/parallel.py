"""What processes are told, and what they took."""

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
Found = TypeVar("Found")

KIB = 1 / 1024 if sys.platform == "darwin" else 1.0
"""The unit in which the system tells a process's memory, in KiB (getrusage(2))."""


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

    def map(self, function: Callable[[Job], Found], jobs: Sequence[Job]) -> Iterator[Found]:
        """What a module's function says of each job, in order; a killed process costs only time.

        Other processes begin at once, this one when it is asked for the first result.
        """
        begun: Iterator[Found] = iter(())
        if self._pool is not None:
            try:
                begun = self._pool.map(function, jobs)
            except loky.BrokenProcessPool:
                self._go_on_alone()
        return self._results(begun, function, jobs)

    def _results(
        self, begun: Iterator[Found], function: Callable[[Job], Found], jobs: Sequence[Job]
    ) -> Iterator[Found]:
        done = 0
        try:
            for found in begun:
                yield found
                done += 1
        except loky.BrokenProcessPool:
            self._go_on_alone()
        yield from map(function, jobs[done:])

    def _go_on_alone(self) -> None:
        if self._pool is not None:
            print("a process was killed, perhaps for want of memory: going on with one")
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
    """Largest resident memory so far of this process, or of one that it has waited for, in MiB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    status = Path("/proc/self/status")
    if status.exists():
        # Linux counts the memory of whoever started the process into ru_maxrss, not into this.
        told = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        own = float(told[1]) if told else own
    others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * KIB
    return max(own, others) / 1024
