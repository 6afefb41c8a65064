"""What processes are told, and what they took."""

from __future__ import annotations

import resource
import signal
import sys

BYTES = 1 if sys.platform == "darwin" else 1024
"""The unit in which the system tells a process's memory (getrusage(2))."""


def ignore_interrupts() -> None:
    """In a worker: leave Ctrl-C to the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def peak_mib() -> float:
    """Largest resident memory so far of this process, or of one that it has waited for, in MiB."""
    of = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in of) * BYTES / 2**20
