import numpy as np
import pandas as pd
import pytest

from common.errors import Code
from meta.stack.predictions import Predictions
from tests.helpers.errors import raises


def test_what_is_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    tables = {name: rng.dirichlet([1, 1, 1], 3) for name in ("meta", "logits-7b.v2")}
    labels = np.array([0, 2, 1])
    kept = Predictions(["a", "007", "ü"], np.array(["g", "g", "h"]), labels, tables)
    kept.write(tmp_path / "p.parquet")
    read = Predictions.read(tmp_path / "p.parquet")
    assert read.ids == kept.ids
    assert read.groups.tolist() == ["g", "g", "h"]
    assert read.labels.tolist() == [0, 2, 1]
    assert list(read.probabilities) == list(tables)
    for name, table in tables.items():
        np.testing.assert_array_equal(read.probabilities[name], table)


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and nothing more", "no columns"])
def test_a_missing_or_damaged_file_is_the_users_to_mend(content, tmp_path):
    path = tmp_path / "p.parquet"
    if content == "no columns":
        pd.DataFrame({"x": [1]}).to_parquet(path)
    elif content is not None:
        path.write_bytes(content)
    code = Code.FIGURES_MISSING if content is None else Code.RUN_FILE_DAMAGED
    with raises(code, match=r"p\.parquet"):
        Predictions.read(path)
