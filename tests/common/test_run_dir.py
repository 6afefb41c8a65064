"""What a run says of itself; real processes."""

import subprocess
import sys
from pathlib import Path

from common.run_dir import RunDir

ROOT = Path(__file__).resolve().parents[2]
UPDATE = """
import sys
from pathlib import Path
from common.run_dir import RunDir
for i in range(60):
    RunDir(Path(sys.argv[1])).update_record(seconds={f"{sys.argv[2]}{i}": i})
"""


def test_commands_that_share_a_run_lose_no_entry_of_each_other(tmp_path):
    argv = [sys.executable, "-c", UPDATE, str(tmp_path / "run")]
    both = [subprocess.Popen([*argv, who], cwd=ROOT) for who in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    seconds = RunDir(tmp_path / "run").read_record()["seconds"]
    assert seconds == {f"{who}{i}": i for who in "ab" for i in range(60)}
