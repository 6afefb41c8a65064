"""Ctrl-C, locks and damaged files are one line each; real processes and signals."""

import errno
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from common.errors import Code
from meta.stack.tuning import TRIAL_ROWS
from pipelines import calibrate, cli, compare, evaluate, extract, finetune, submit, train_meta
from tests.helpers.battle_files import lmsys
from tests.helpers.errors import error_line

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from common.run_dir import RunDir
run = RunDir(Path(sys.argv[1]))
with run.changing("extract.py") if sys.argv[2] == "alone" else run.reading("submit.py"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "battles").mkdir(parents=True)
    (folder / "battles" / "train.parquet").write_bytes(b"not read while another works")
    return folder


def holder(run, how):
    argv = [sys.executable, "-c", HOLD, str(run), how]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def given(command, run, train):
    if command is extract:
        return ["--train", str(train), "--run", str(run)]
    return ["--run", str(run)]


@pytest.mark.parametrize("command", [compare, train_meta])
def test_help_says_how_many_battles_serve_a_trial(command, capsys):
    with pytest.raises(SystemExit):
        command.command(["--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert f"each on {TRIAL_ROWS:,} battles at most" in out


@pytest.mark.parametrize("command", [extract, finetune, train_meta, submit, evaluate])
def test_no_default_is_stated_twice(command, capsys):
    with pytest.raises(SystemExit):
        command.command(["--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "(default: None)" not in out
    assert "(default: " in out


@pytest.mark.parametrize("command", [extract, finetune, train_meta, submit, evaluate])
def test_no_command_works_beside_one_that_changes_the_run(command, run, tmp_path, capsys):
    process = holder(run, "alone")
    try:
        assert command.command(given(command, run, lmsys(tmp_path / "train.csv", 5))) == 2
    finally:
        process.kill()
        process.wait()
    assert f"(extract.py, process {process.pid})" in error_line(capsys, Code.RUN_IN_USE)


@pytest.mark.parametrize(("command", "blocked"), [(train_meta, True), (submit, False)])
def test_who_reads_keeps_out_only_who_changes(command, blocked, run, capsys):
    process = holder(run, "shared")
    try:
        assert command.command(["--run", str(run)]) == 2
    finally:
        process.kill()
        process.wait()
    line = error_line(capsys, Code.RUN_IN_USE if blocked else Code.MODEL_MISSING)
    assert ("(submit.py" in line) == blocked


@pytest.mark.parametrize(
    "name", [m.__name__.rsplit(".")[-1] for m in (calibrate, extract, finetune, train_meta, submit)]
)
def test_ctrl_c_while_the_libraries_load(name, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", str(ROOT / "pipelines" / f"{name}.py"), "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Once the first of the heavy libraries has begun to load, the command's own lines have run.
    heard = []
    while not any("numpy" in line for line in heard[-1:]):
        heard.append(process.stderr.readline())
        assert heard[-1], "it ended before it loaded numpy"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert "stopped; the same command" in err
    assert "Traceback" not in err
    assert out == ""


def rows_beyond_memory(_):
    bytes(2**62)


def tensor_beyond_memory(_):
    torch.empty(2**50, dtype=torch.uint8)


def gpu_is_full(_):
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (rows_beyond_memory, "fewer rows (extract.py --limit N)"),
        (tensor_beyond_memory, "smaller backbone, --quantization nf4"),
        (gpu_is_full, "smaller backbone, --quantization nf4"),
    ],
)
def test_memory_that_does_not_suffice_is_one_line(command, advice, capsys):
    assert cli.run(command, Namespace()) == 2
    assert advice in error_line(capsys, Code.OUT_OF_MEMORY)


def test_a_full_disk_is_one_line_that_says_to_rerun(capsys):
    def disk_is_full(_):
        raise OSError(errno.ENOSPC, "No space left on device", "/runs/x")

    assert cli.run(disk_is_full, Namespace()) == 2
    assert "/runs/x" in error_line(capsys, Code.SYSTEM_ERROR)


@pytest.mark.parametrize("argv", [["--nonsense"], ["--run"], ["--count", "x"], ["--count", "0"]])
def test_a_usage_error_is_one_line_with_a_code(argv, capsys):
    parser = cli.parser("A command.")
    parser.add_argument("--run")
    parser.add_argument("--count", type=cli.positive)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(argv)
    assert argv[0] in error_line(capsys, Code.USAGE)


def test_other_errors_keep_their_traceback():
    def bug(_):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        cli.run(bug, Namespace())


def test_a_command_in_the_background_of_a_script_ignores_ctrl_c(tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "pipelines" / "submit.py"), "--run", str(tmp_path / "none")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    assert f"[{Code.MODEL_MISSING}] " in process.communicate()[1]
    assert process.returncode == 2
