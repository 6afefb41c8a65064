"""Files of made-up forecasts, and calibrate.py on them."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from arena.schema import CLASSES
from pipelines import calibrate
from tests.helpers.errors import error_line

P = [f"p_{name}" for name in CLASSES]


def drawn(n=1500, seed=0):
    """True log-probabilities and labels drawn from them."""
    rng = np.random.default_rng(seed)
    z = log_softmax(rng.normal(size=(n, 3)), axis=1)
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


def table(p, y, names=P):
    """A file's table with ids r0, r1, …, probabilities in ``names`` and 0 / 1 / 2 in label."""
    frame = pd.DataFrame(p, columns=list(names)).assign(label=y)
    frame.insert(0, "id", [f"r{i}" for i in range(len(frame))])
    return frame


def run(tmp_path, frame, *argv):
    """Calibrate a table; the probabilities written, float64 (n, 3)."""
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    frame.to_csv(path, index=False)
    assert calibrate.command(["--probs", str(path), "--out", str(out), *argv]) == 0
    found = pd.read_csv(out, dtype={"id": str}, keep_default_na=False)
    assert list(found.columns) == ["id", *CLASSES]
    assert found["id"].tolist() == frame["id"].astype(str).tolist()
    p = found[list(CLASSES)].to_numpy()
    assert p.sum(axis=1) == pytest.approx(1)
    return p


def refused(tmp_path, capsys, frame, code, *argv):
    """The one line, of this code, that a table is refused with."""
    path = tmp_path / "in.csv"
    if isinstance(frame, pd.DataFrame):
        frame.to_csv(path, index=False)
    else:
        path.write_bytes(frame)
    assert calibrate.command(["--probs", str(path), *argv]) == 2
    assert sorted(f.name for f in tmp_path.iterdir()) == ["in.csv"]
    return error_line(capsys, code)


def one_hot(y, names=CLASSES):
    return pd.DataFrame(np.eye(3, dtype=int)[y], columns=list(names))
