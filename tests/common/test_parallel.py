import subprocess
import sys
from pathlib import Path

import numpy as np

from common.parallel import peak_mib


def test_the_peak_stays_and_is_of_the_process_that_asks():
    large = np.ones(400 * 2**20, dtype=np.uint8)
    peak = peak_mib()
    assert peak >= large.nbytes / 2**20
    # One that this process starts has its own peak, not this one's.
    code = "from common.parallel import peak_mib; print(peak_mib())"
    folder = Path(__file__).resolve().parents[2]
    told = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, check=True)
    assert 5 < float(told.stdout) < 100
    del large
    # The kernel counts a few pages late.
    assert peak_mib() >= peak - 1
