"""Some thousand changed files through everything that reads one; benchmarks/fuzz.py has no end."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fuzz_targets import TARGETS
from common.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_reads_its_sound_files_and_lives_with_damaged_ones(name, tmp_path):
    target, seeds = TARGETS[name](tmp_path)
    for content in seeds:
        target(content)
    for content in (b"", b"\xff\x00" * 40):
        with contextlib.suppress(UserError):
            target(content)


@pytest.mark.exhaustive
def test_no_changed_file_ends_in_a_traceback(tmp_path):
    pytest.importorskip("atheris")
    command = [sys.executable, "benchmarks/fuzz.py", "--inputs", "15000", "--keep", tmp_path]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    assert "15,000 inputs, 0 findings" in ended.stdout
