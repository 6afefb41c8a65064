"""Every fault of ``benchmarks/faults.py`` once, on real processes."""

import os
import random
import shutil
import subprocess
import sys

import pytest

from benchmarks.fault_bench import Bench
from benchmarks.faults import FAULTS, Outcome

NEEDS = {
    "disk full in the middle": ["unshare", "-rm", "true"],
    "no network": ["unshare", "-rn", "true"],
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("bench") / "bench")


QUICK = "killed (kill -9)"
"""In ``make test``, too; two processes on one run are in ``tests/common/test_lock.py`` there."""


@pytest.mark.parametrize(
    "title",
    [
        pytest.param(title, marks=pytest.mark.slow if title == QUICK else pytest.mark.exhaustive)
        for title in FAULTS
    ],
)
def test_nothing_is_lost_and_the_output_is_the_same(bench, title):
    needed = NEEDS.get(title)
    if needed and subprocess.run(needed, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip(f"{' '.join(needed)} is not allowed here")
    out = Outcome()
    FAULTS[title](bench, random.Random(title), out)
    assert out.complaints == []
    assert out.unequal == []
    assert out.rows_lost == 0
    assert out.injected


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
def test_the_embedded_model_is_read_where_no_cache_can_be_written(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o555)
    code = (
        "from embeddings.backbone.load import model_folder\n"
        "from embeddings.backbone.config import load_config\n"
        "folder = model_folder(load_config('smollm2-135m'))\n"
        "print('made', (folder / 'model.safetensors').stat().st_size > 1e8, folder)"
    )
    rights = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    done = subprocess.run(
        [*(rights if os.geteuid() == 0 else []), sys.executable, "-c", code],
        env={**os.environ, "TIEBREAK_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "made True" in done.stdout
    assert "TIEBREAK_CACHE" in done.stderr
    assert list(cache.iterdir()) == []
    assert not os.path.exists(done.stdout.split()[-1])  # noqa: PTH110
