"""One process changes a folder at a time, and a dead one holds nothing; real processes."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from common.errors import Code
from common.lock import run_lock
from common.run_dir import RunDir
from tests.helpers.errors import raises

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from common.lock import run_lock
with run_lock(Path(sys.argv[1]), "train_meta.py", shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder():
    """Starts a process that holds a folder's lock, alone or shared."""
    with ExitStack() as stack:

        def start(folder, how="alone"):
            process = subprocess.Popen(
                [sys.executable, "-c", HOLD, str(folder), how],
                stdout=subprocess.PIPE,
                cwd=ROOT,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout.readline() == "held\n"
            return process

        yield start


def get(folder, shared=False):
    with run_lock(folder, "here", shared=shared):
        return True


@pytest.mark.parametrize("shared", [False, True])
def test_who_comes_second_is_told_who_was_first(tmp_path, holder, shared):
    process = holder(tmp_path)
    with raises(Code.RUN_IN_USE, match=rf"train_meta\.py, process {process.pid}"):
        get(tmp_path, shared)
    assert get(tmp_path.parent)


def test_readers_share_and_keep_writers_out(tmp_path, holder):
    holder(tmp_path, "shared")
    assert get(tmp_path, shared=True)
    with raises(Code.RUN_IN_USE):
        get(tmp_path)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_dead_process_holds_nothing(tmp_path, holder, how):
    process = holder(tmp_path)
    os.kill(process.pid, how)
    process.wait()
    assert (tmp_path / ".lock").exists()
    assert get(tmp_path)
    assert get(tmp_path)


def test_unfinished_files_are_removed_by_who_is_alone(tmp_path):
    leftover = tmp_path / "views" / ".train.parquet.4711.tmp"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    assert get(tmp_path, shared=True)
    assert leftover.exists()
    assert get(tmp_path)
    assert not leftover.exists()


def test_only_unfinished_files_of_the_run_itself_are_removed(tmp_path):
    run, other = RunDir(tmp_path / "run"), tmp_path / "other"
    ours = [run.views / "style" / ".train.parquet.4711.tmp", run.folder / ".metrics.json.12.tmp"]
    others = [
        *(run.folder / name for name in (".draft.tmp", ".draft.1.tmp", "mine/.x.parquet.1.tmp")),
        *(run.views / name for name in (".x.tmp", "x.1.tmp", ".x.parquet.1.tmp.old")),
        *(run.views / ".folder.1.tmp" / "x", other / ".x.1.tmp"),
    ]
    for path in (*ours, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    (run.views / ".link.1.tmp").symlink_to(other / ".x.1.tmp")
    (run.views / "linked").symlink_to(other)
    run.judges.symlink_to(other)
    with run.changing("here"):
        assert not any(path.exists() for path in ours)
        assert all(path.exists() for path in (*others, run.views / ".link.1.tmp"))


def test_a_folder_that_is_not_there_stays_so(tmp_path):
    assert get(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize("locked_before", [False, True])
def test_a_folder_that_may_only_be_read(tmp_path, locked_before):
    folder = tmp_path / "run"
    folder.mkdir()
    if locked_before:
        get(folder)
        (folder / ".lock").chmod(0o444)
    folder.chmod(0o555)
    # Those of pytest, which others may not enter; the temporary folder itself stays as it is.
    for parent in (tmp_path, *tmp_path.parents):
        if not parent.stat().st_mode & 0o005:
            parent.chmod(0o755)
    os.seteuid(65534)
    try:
        assert get(folder, shared=True)
        with raises(Code.RUN_READ_ONLY):
            get(folder)
    finally:
        os.seteuid(0)
