"""A run with judges, pair probes and a zero-shot verdict predicts in memory what it submits."""

import numpy as np
import pandas as pd
import pytest

from pipelines import finetune, submit, train_meta, verdict
from tests.helpers.planted import save_shallow_model
from tests.helpers.tuned_runs import QUICK, extracted
from tiebreak import Tiebreak

FROZEN = ["--view", "logits-frozen", "--epochs", "0", "--folds", "2", "--max-tokens", "256"]


@pytest.mark.slow
def test_predictions_in_memory_are_the_submission(tmp_path):
    run = extracted(tmp_path, save_shallow_model(tmp_path / "toy"), n=60)
    argv = ["--run", str(run)]
    assert finetune.command([*argv, *QUICK]) == 0
    assert finetune.command([*argv, *FROZEN]) == 0
    assert verdict.command(argv) == 0
    assert train_meta.command([*argv, "--trials", "0", "--bags", "1", "--folds", "3"]) == 0
    assert submit.command(argv) == 0
    model = Tiebreak.load(run)
    assert {"joint", "logits-toy", "logits-frozen", "verdict-toy"} <= set(model.views)
    submission = pd.read_csv(run / "submission.csv").drop(columns="id").to_numpy()
    table = pd.read_csv(tmp_path / "test.csv")
    assert np.abs(model.predict_proba(table) - submission).max() < 1e-6
