"""kill -9 in the middle of an extraction, then the same command again."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.battle_files import lmsys
from tests.helpers.tiny import save_tiny_model

ROOT = Path(__file__).resolve().parents[2]


RAY = ("--engine", "ray", "--actors", "2")


BY_CHUNKS = """
import sys
from embeddings.frozen import chunks
chunks.CHUNK = {}
from pipelines import extract
sys.exit(extract.command())
"""


def start(train, run, model, *more, window=1000):
    argv = ["--train", str(train), "--run", str(run), "--backbone", str(model), *more]
    return subprocess.Popen(
        [sys.executable, "-c", BY_CHUNKS.format(window), *argv],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def hashes(run):
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((run / "views").rglob("*"))
        if path.is_file()
    }


@pytest.mark.exhaustive
@pytest.mark.parametrize(("engine", "window"), [((), 1000), (RAY, 1000), ((), 100)])
def test_killed_at_three_moments_gives_the_same_bytes(tmp_path, engine, window):
    model = save_tiny_model(tmp_path / "model")
    train = lmsys(tmp_path / "train.csv", 400)
    assert start(train, tmp_path / "calm", model, window=window).wait() == 0
    run, kills = tmp_path / "killed", 0
    for shards in (1, 4, 8):
        process = start(train, run, model, *engine, window=window)
        while process.poll() is None:
            if len(list((run / "views").rglob("*.safetensors"))) >= shards:
                os.killpg(process.pid, signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
                break
            time.sleep(0.002)
    assert kills == 3
    assert start(train, run, model, *engine, window=window).wait() == 0
    assert hashes(run) == hashes(tmp_path / "calm")


def actors_of(parent):
    """Processes of Ray's actors that this process's raylet started."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            name = (path / "cmdline").read_bytes()
            before = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        found[int(path.name)] = (before, name)
    return [
        process
        for process, (raylet, name) in found.items()
        if name.startswith(b"ray::MapWorker") and found.get(raylet, (0, b""))[0] == parent
    ]


@pytest.mark.exhaustive
def test_a_killed_actor_is_replaced(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    train = lmsys(tmp_path / "train.csv", 400)
    assert start(train, tmp_path / "calm", model).wait() == 0
    process = start(train, tmp_path / "run", model, *RAY)
    while process.poll() is None and not list((tmp_path / "run").rglob("*.safetensors")):
        time.sleep(0.002)
    actors = actors_of(process.pid)
    assert len(actors) == 2
    os.kill(actors[0], signal.SIGKILL)
    assert process.wait() == 0
    assert hashes(tmp_path / "run") == hashes(tmp_path / "calm")
