"""kill -9 in the middle of an extraction, then the same command again."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_commands import lmsys
from tiny import save_tiny_model

ROOT = Path(__file__).resolve().parents[2]


def start(train, run, model):
    argv = ["--train", str(train), "--run", str(run), "--backbone", str(model)]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "pipelines" / "extract.py"), *argv],
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
def test_killed_at_three_moments_gives_the_same_bytes(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    train = lmsys(tmp_path / "train.csv", 400)
    assert start(train, tmp_path / "calm", model).wait() == 0
    run, kills = tmp_path / "killed", 0
    for shards in (1, 4, 8):
        process = start(train, run, model)
        while process.poll() is None:
            if len(list((run / "views").rglob("*.safetensors"))) >= shards:
                os.killpg(process.pid, signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
                break
            time.sleep(0.002)
    assert kills == 3
    assert start(train, run, model).wait() == 0
    assert hashes(run) == hashes(tmp_path / "calm")
