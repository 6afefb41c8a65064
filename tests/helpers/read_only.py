"""A folder that really cannot be written, whoever runs the tests."""

import os
from contextlib import contextmanager

NOBODY = 65534


@contextmanager
def read_only(folder):
    """Take the right to write from all below a folder; root acts as nobody meanwhile.

    Everything above the folder must be readable by all.
    """
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
