"""Seconds and memory of the steps of long work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from common.parallel import own_peak_mib

Step = Callable[[str], AbstractContextManager[object]]
"""Called with a step's name, it gives the context in which the step is done."""


class Steps:
    """What each step took, by name; steps do not overlap, and one may be done in several parts.

    Both attributes are ready for JSON.

    Attributes:
        seconds: by the clock, in the order of beginning.
        peak_mib: largest resident memory of this process in the step, the mapped pages of files
            included. Where the system cannot begin that count anew (Linux can), it is the largest
            until the step's end.
    """

    def __init__(self) -> None:
        """Begin with no step."""
        self.seconds: dict[str, float] = {}
        self.peak_mib: dict[str, int] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """The context of a step, or of a further part of it."""
        _begin_peak()
        start = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - start
            self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 3)
            self.peak_mib[name] = max(self.peak_mib.get(name, 0), round(own_peak_mib()))


def _begin_peak() -> None:
    """Count the largest memory from now on: "5" does that, see proc_pid_clear_refs(5)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
