"""Runs of a tiny random model that finetune.py is tried on."""

from pipelines import extract
from tests.helpers.battle_files import lmsys

QUICK = ["--folds", "2", "--rank", "4", "--max-tokens", "256", "--batch", "8", "--lr", "1e-3"]


def extracted(folder, model, n=24):
    """A run that extract.py made, with a test set."""
    train, test = lmsys(folder / "train.csv", n), lmsys(folder / "test.csv", 5, 1, labelled=False)
    run = folder / "run"
    argv = ["--train", str(train), "--test", str(test), "--run", str(run)]
    assert extract.command([*argv, "--backbone", str(model)]) == 0
    return run
