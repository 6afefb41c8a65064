from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from arena.processes import peak_mib


def test_the_peak_stays_and_is_of_the_process_that_asks():
    large = np.ones(400 * 2**20, dtype=np.uint8)
    peak = peak_mib()
    assert peak >= large.nbytes / 2**20
    # One that this process starts has its own peak, not this one's.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert 5 < pool.submit(peak_mib).result() < peak - 200
    del large
    assert peak_mib() >= peak
