"""What a step took: its own time, and memory that an earlier step has given back does not count."""

import sys

import numpy as np
import pytest

from common.parallel import own_peak_mib, peak_mib
from common.steps import Steps

MANY = 2**26
"""Values of 8 bytes: 512 MiB."""


def test_parts_of_a_step_add_up(monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 10.5, 20.0, 24.0])
    monkeypatch.setattr("common.steps.time.monotonic", lambda: next(clock))
    steps = Steps()
    for name in ("fits", "prediction", "fits"):
        with steps(name):
            pass
    assert steps.seconds == {"fits": 7.0, "prediction": 0.5}
    assert all(mib > 0 for mib in steps.peak_mib.values())


def test_a_step_that_fails_is_recorded_and_its_error_goes_on():
    steps = Steps()
    with pytest.raises(KeyError), steps("fits"):
        raise KeyError
    assert list(steps.seconds) == list(steps.peak_mib) == ["fits"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the count cannot begin anew")
def test_memory_is_that_of_each_step():
    steps = Steps()
    with steps("large"):
        assert np.ones(MANY).sum() == MANY
    with steps("small"):
        assert np.ones(1).sum() == 1
    with steps("small"):
        pass
    # 512 MiB are two thirds of what was added, whatever else the allocator keeps.
    assert steps.peak_mib["large"] > steps.peak_mib["small"] + 340
    assert peak_mib() >= own_peak_mib() == pytest.approx(steps.peak_mib["small"], abs=50)
