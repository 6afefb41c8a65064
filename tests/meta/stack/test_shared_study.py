"""Several processes share a study: its trials are counted together, and all get the same result."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy.engine import make_url

from common.errors import Code
from meta.stack.shared_study import FINISHED, Study
from tests.helpers.errors import raises

ROOT = Path(__file__).resolve().parents[3]
TRIALS = 7

BASELINE = {"x": 3.0, "y": 0.5}

WORKER = """
import json, sys, time
from sqlalchemy.engine import make_url
from meta.stack import shared_study as studies
studies.HEARTBEAT, studies.GRACE, studies.POLL = 1, 3, 0.1
url, pause, baseline, trials = map(json.loads, sys.argv[1:])
def objective(trial):
    x, y = trial.suggest_float("x", 0, 9), trial.suggest_float("y", 0, 1)
    print("started", flush=True)
    time.sleep(pause)
    trial.report(x, 0)
    return x * y
print(json.dumps(studies.Study(make_url(url), "study", baseline).run(objective, trials)))
"""


def begin(url, pause=0.1):
    """A process that works on the study, ``pause`` seconds a trial."""
    arguments = map(json.dumps, (url, pause, BASELINE, TRIALS))
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def result(process):
    """Its parameters, and how many trials it started."""
    said = process.communicate(timeout=120)[0].splitlines()
    assert process.returncode == 0
    return said[-1], said.count("started")


def check_shared(url):
    """Of four processes one is killed and one stands still in a trial: the work is done once."""
    killed, still = [begin(url, pause) for pause in (60, 1)]
    assert killed.stdout.readline() == still.stdout.readline() == "started\n"
    still.send_signal(signal.SIGSTOP)
    killed.kill()
    killed.wait()
    killed.stdout.close()
    others = [result(process) for process in [begin(url), begin(url)]]
    still.send_signal(signal.SIGCONT)
    others.append(result(still))
    assert len({parameters for parameters, _ in others}) == 1
    trials = optuna.load_study(study_name="study", storage=url).trials
    done = [t for t in trials if t.state in FINISHED]
    assert len(done) == TRIALS
    assert not [t for t in trials if t.state == TrialState.RUNNING]
    # One of the two that did not end had the baseline's trial, and another took it over.
    baselines = [t.params for t in done].count(BASELINE)
    assert baselines >= 1
    # No two searched with the same seed.
    assert len({tuple(t.params.values()) for t in done}) == TRIALS - baselines + 1
    # Who comes late finds the work done.
    assert result(begin(url)) == (others[0][0], 0)


@pytest.mark.slow
def test_processes_share_a_sqlite_file(tmp_path):
    check_shared(f"sqlite:///{tmp_path}/studies.db")


def test_work_that_is_done_is_not_done_again(tmp_path):
    url = make_url(f"sqlite:///{tmp_path}/studies.db")
    asked = []

    def objective(trial):
        asked.append(trial.suggest_float("x", 0, 9))
        return asked[-1]

    told = []
    best = [
        Study(url, "s", {"x": 3.0}).run(objective, n, lambda: told.append(1)) for n in (4, 4, 6)
    ]
    assert len(asked) == len(told) == 6
    assert best[0] == best[1] == [{"x": x} for x in sorted(asked[:4])]
    assert best[2] == [{"x": x} for x in sorted(asked)]
    assert asked[0] == 3.0
    assert len(set(asked)) == 6


def test_a_mistake_in_a_trial_is_raised_and_its_place_is_free(tmp_path):
    url = make_url(f"sqlite:///{tmp_path}/studies.db")

    def broken(_):
        raise ValueError("not this way")

    with pytest.raises(ValueError, match="not this way"):
        Study(url, "s", {"x": 3.0}).run(broken, 1)
    params = Study(url, "s", {"x": 3.0}).run(lambda trial: trial.suggest_float("x", 0, 9), 1)
    assert params == [{"x": 3.0}]


def test_a_driver_that_is_missing():
    with raises(Code.DATABASE_DRIVER_MISSING):
        Study(make_url("postgresql+pg8000://me:hunter2@127.0.0.1:1/x"), "s", {})


def server_programs():
    initdb = shutil.which("initdb")
    folders = [Path(initdb).parent] if initdb else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "postgres").exists()), None)


@pytest.fixture
def postgresql(tmp_path_factory):
    """URL of an empty database of a server of our own, reached by a socket in its folder."""
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed")
    pytest.importorskip("psycopg")
    # A socket's path is short, and the server refuses to run as root.
    folder = tmp_path_factory.getbasetemp() / "pg"
    folder.mkdir()
    who = {}
    if os.geteuid() == 0:
        for parent in folder.parents:
            if not parent.stat().st_mode & 0o005:
                parent.chmod(0o755)
        shutil.chown(folder, "nobody")
        who = {"user": "nobody", "group": "nogroup", "extra_groups": []}

    def call(program, *arguments):
        subprocess.run(
            [programs / program, *arguments],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            **who,
        )

    data = folder / "data"
    call("initdb", "-D", data, "-U", "tiebreak", "-A", "trust", "--no-sync")
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    call("pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start")
    try:
        yield f"postgresql+psycopg://tiebreak@/postgres?host={folder}"
    finally:
        call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


@pytest.mark.exhaustive
def test_processes_share_a_postgresql(postgresql):
    check_shared(postgresql)
