"""What is costly to make is made by one worker process of pytest-xdist, for all of them."""

import os
import shutil

from common.lock import exclusive


def once(tmp_path_factory, name, make):
    """A folder that ``make`` fills; tests that change it must copy it.

    Args:
        tmp_path_factory: pytest's.
        name: of the folder, among all tests.
        make: takes the empty folder.
    """
    base = tmp_path_factory.getbasetemp()
    # Each worker's own folder lies in one that they share.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / name, shared / f"{name}.done"
    with exclusive(shared):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
