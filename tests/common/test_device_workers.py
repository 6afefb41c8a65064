"""Jobs reach every worker process, and one that dies costs nothing but its own place."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from common.device_workers import DeviceWorkers, visible_to
from common.errors import Code, UserError
from tests.helpers.errors import raises

ROOT = Path(__file__).resolve().parents[2]
TWO = ("cpu", "cpu")


def square(job, count):
    count(job)
    return job**2, os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"]


def squares():
    return square


def all_die():
    def work(job, count):
        count(job)
        os.kill(os.getpid(), signal.SIGKILL)

    return work


def first_dies(folder):
    """Whoever takes job 3 first is killed."""

    def work(job, count):
        count(job)
        if job == 3 and not (folder / "dead").exists():
            (folder / "dead").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return job**2

    return work


def first_fails(folder, error):
    """Whoever comes first fails while it loads."""
    if not (folder / "failed").exists():
        (folder / "failed").touch()
        raise error
    return lambda job, _: job**2


def squares_of_two(folder):
    """Each process waits with its first job until there is another."""

    def work(job, count):
        (folder / str(os.getpid())).touch()
        until = time.monotonic() + 60
        while len(list(folder.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        return square(job, count)

    return work


def test_jobs_are_done_by_both(tmp_path):
    with DeviceWorkers(partial(squares_of_two, tmp_path), TWO, 3) as workers:
        counts = []
        done = dict(workers.results(range(40), counts.append))
    assert {job: result[0] for job, result in done.items()} == {i: i**2 for i in range(40)}
    assert sum(counts) == sum(range(40))
    assert {result[2:] for result in done.values()} == {("", "3")}
    assert len({result[1] for result in done.values()} - {os.getpid()}) == 2


def test_no_more_start_than_there_are_jobs():
    with DeviceWorkers(squares, TWO, 1) as workers:
        one = dict(workers.results([5]))
        two = dict(workers.results([6, 7]))
    assert one[5][0] == 25
    assert {result[0] for result in two.values()} == {36, 49}


def test_a_killed_one_leaves_its_job_to_the_other(tmp_path, capsys):
    counts = []
    with DeviceWorkers(partial(first_dies, tmp_path), TWO, 1) as workers:
        done = dict(workers.results(range(6), counts.append))
    assert done == {i: i**2 for i in range(6)}
    assert sum(counts) == sum(range(6))
    err = capsys.readouterr().err
    assert "cpu is out of use: its process was killed by signal 9" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("CUDA error: an illegal memory access\nmore"), "illegal memory access;"),
        (UserError(Code.OUT_OF_MEMORY, "too little"), "[TB702] too little;"),
        # What a pipe whose other end is gone raises, too.
        (EOFError("a file is cut short"), "EOFError: a file is cut short;"),
    ],
)
def test_one_that_fails_leaves_the_work_to_the_other(tmp_path, capsys, error, told):
    with DeviceWorkers(partial(first_fails, tmp_path, error), TWO, 1) as workers:
        assert dict(workers.results(range(4))) == {i: i**2 for i in range(4)}
    assert told in capsys.readouterr().err


def test_none_is_left():
    with (
        raises(Code.WORKERS_FAILED, match="killed by signal 9"),
        DeviceWorkers(all_die, TWO, 1) as workers,
    ):
        list(workers.results([1, 2, 3]))


def test_the_last_ones_own_mistake_is_told(tmp_path):
    error = UserError(Code.OUT_OF_MEMORY, "too little")
    with (
        raises(Code.OUT_OF_MEMORY, match="too little"),
        DeviceWorkers(partial(first_fails, tmp_path, error), TWO[:1], 1) as workers,
    ):
        list(workers.results([1]))


@pytest.mark.parametrize(
    ("own", "device", "visible"),
    [("", "cpu", ""), ("", "cuda:1", "1"), ("2,5", "cuda:1", "5"), ("2, GPU-7", "cuda:1", "GPU-7")],
)
def test_a_process_sees_its_own_device_alone(monkeypatch, own, device, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", own)
    assert visible_to(device) == visible


# No guard of the main module: a worker must not run it again.
SCRIPT = """
import os, sys, time
sys.path.insert(0, {root!r})
from common.device_workers import DeviceWorkers
from tests.common.test_device_workers import sleeps

with DeviceWorkers(sleeps, ("cpu", "cpu"), 1) as workers:
    for _, process in workers.results(range(1000)):
        print(process, flush=True)
"""


def sleeps():
    def work(job, count):
        time.sleep(0.01)
        return os.getpid()

    return work


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(sent):
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(root=str(ROOT))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    processes = {int(parent.stdout.readline()) for _ in range(60)}
    assert len(processes) == 2
    if sent == signal.SIGINT:
        # Ctrl-C reaches all processes of a terminal.
        os.killpg(parent.pid, sent)
    else:
        parent.kill()
    _, err = parent.communicate(timeout=30)
    assert "device_workers" not in err.rpartition("KeyboardInterrupt")[2]
    until = time.monotonic() + 10
    while any(Path(f"/proc/{p}").exists() for p in processes) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{p}").exists() for p in processes)
