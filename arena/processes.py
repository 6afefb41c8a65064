"""What processes are told, and what they took."""

from __future__ import annotations

import re
import resource
import signal
import sys
from pathlib import Path

KIB = 1 / 1024 if sys.platform == "darwin" else 1.0
"""The unit in which the system tells a process's memory, in KiB (getrusage(2))."""


def ignore_interrupts() -> None:
    """In a worker: leave Ctrl-C to the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
