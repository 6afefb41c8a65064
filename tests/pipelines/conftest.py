"""A run with a model, which tests of several files begin with; each file has its own."""

import pytest
from battle_files import lmsys
from tiny import save_tiny_model

from pipelines import extract, submit, train_meta


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_folder):
    """A run with a model and a test set."""
    folder = tmp_path_factory.mktemp("run")
    train, test = lmsys(folder / "train.csv"), lmsys(folder / "test.csv", 12, 1, labelled=False)
    run = folder / "run"
    argv = ["--train", str(train), "--test", str(test), "--run", str(run)]
    assert extract.command([*argv, "--backbone", str(model_folder)]) == 0
    assert train_meta.command(["--run", str(run), "--trials", "2", "--bags", "1"]) == 0
    assert submit.command(["--run", str(run)]) == 0
    return run
