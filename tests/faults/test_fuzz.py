"""Some thousand changed files through everything that reads one; benchmarks/fuzz.py has no end."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.exhaustive
def test_no_changed_file_ends_in_a_traceback(tmp_path):
    pytest.importorskip("atheris")
    command = [sys.executable, "benchmarks/fuzz.py", "--inputs", "15000", "--keep", tmp_path]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    assert "15,000 inputs, 0 findings" in ended.stdout
