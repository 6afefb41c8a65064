"""Locks of a folder: one process that changes it, or any number of processes that read it.

The lock is the operating system's (flock), which releases it when a process dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import Code, UserError
from common.files import remove_unfinished

NAME = ".lock"
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def run_lock(
    folder: Path, who: str, *, shared: bool = False, own: Sequence[Path] = ()
) -> Iterator[None]:
    """Hold the lock of a folder for the time of the context; a missing folder needs no lock.

    An exclusive lock also removes the unfinished files that a killed process left.

    Args:
        folder: the folder to lock, with all below it except folders that have their own lock.
        who: name of the command that holds the lock, for messages.
        shared: admit other processes that ask for a shared lock.
        own: files and folders in which unfinished files are removed; by default all below
            ``folder``.

    Raises:
        UserError: another process holds the lock.
    """
    descriptor = _open(folder / NAME, shared) if folder.is_dir() else None
    if descriptor is None:
        yield
        return
    try:
        _lock(descriptor, folder, shared)
        if not shared:
            for path in own or (folder,):
                remove_unfinished(path)
        _sign(descriptor, f"{who}, process {os.getpid()}")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Wait for, and hold, an exclusive lock for one small change; independent of ``run_lock``."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems do not support locks.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path, shared: bool) -> int | None:
    """Open the lock file; ``None`` if it cannot be created and the lock is shared.

    Raises:
        UserError: the folder cannot be written, and the lock is exclusive.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        if not shared:
            raise UserError(
                Code.RUN_READ_ONLY,
                f"The run {path.parent} cannot be written ({error.strerror}). Copy it to a folder "
                "that can; for new test battles its model folder and run.json suffice.",
            ) from None
    return os.open(path, os.O_RDONLY) if path.exists() else None


def _lock(descriptor: int, folder: Path, shared: bool) -> None:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
        raise UserError(
            Code.RUN_IN_USE,
            f"The run {folder} is in use ({holder}). Wait until that ends, or take another --run.",
        ) from None
    except OSError as error:
        # Some network file systems do not support locks.
        print(
            f"{folder} cannot be locked ({error.strerror}): let no other command run on it",
            file=sys.stderr,
        )


def _sign(descriptor: int, text: str) -> None:
    # The name is only informative: a full disk or a read-only lock file does no harm.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
