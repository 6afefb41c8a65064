"""What the machine at hand has, for people who plan; its GPUs are ``check_devices``'s to tell."""

from __future__ import annotations

import os
import re
from pathlib import Path

from common.device_workers import CPU
from common.files import free_bytes
from embeddings.backbone.config import BackboneConfig
from embeddings.replicas import devices_for

MEMINFO = Path("/proc/meminfo")


def machine_lines(folder: Path, config: BackboneConfig) -> list[str]:
    """Cores, free memory, free disk, and where models will read, for people.

    Args:
        folder: of the run, which may still have to be made.
        config: the backbone.

    Raises:
        UserError: the environment names a device that is not there.
    """
    free, total = (amount / 2**30 for amount in memory())
    line = (
        f"this machine: {os.cpu_count()} cores, {free:,.1f} of {total:,.1f} GiB of memory free, "
        f"{free_bytes(folder) / 2**30:,.1f} GiB free on the disk of {folder}"
    )
    devices = devices_for(config)
    return [line, *([f"a model each on {', '.join(devices)}"] if devices else [])]


def memory() -> tuple[float, float]:
    """Bytes of memory that programs may still take, and of all memory.

    Where the system does not say what is free (not Linux) both are all memory.
    """
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    told = MEMINFO.read_text() if MEMINFO.exists() else ""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", told, re.MULTILINE)
    return (float(match[1]) * 1024 if match else total), total


def cards_that_read(config: BackboneConfig) -> int:
    """How many models read at the same time on cards of their own; at least 1."""
    return max(1, sum(device != CPU for device in devices_for(config)))
