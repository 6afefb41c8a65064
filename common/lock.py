"""Who works in a folder: one process that changes it, or any number that read it.

The lock is the operating system's (flock), so a process that dies, however, holds it no longer.
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
    """Keep others out of a folder for the time of the context; a folder that is not there is free.

    Whoever comes alone also removes the unfinished files that a killed process left.

    Args:
        folder: what is locked, with all below it but what has a lock of its own.
        who: the command that holds it, for people.
        shared: let others in who are content to share it.
        own: files and folders in which unfinished files are looked for; by default all below
            the folder.

    Raises:
        UserError: another process holds it.
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
    """Be the only one who changes a small file of a folder, for the moment of the context.

    Waits for whoever is there before. Independent of ``run_lock``.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems know no locks.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path, shared: bool) -> int | None:
    """The lock file; ``None`` where it is not there and cannot be made, which stops no reader."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if not shared or error.errno not in READ_ONLY:
            raise
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
        # Some network file systems know no locks.
        print(
            f"{folder} cannot be locked ({error.strerror}): let no other command run on it",
            file=sys.stderr,
        )


def _sign(descriptor: int, text: str) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
    except OSError:
        # A full disk or a lock file that may only be read: the name is for people.
        return
