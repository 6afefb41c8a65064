"""Runs that tests of several files begin with: made once, each file has its own copy."""

import shutil

import pytest

from pipelines import extract, finetune, submit, train_meta
from tests.helpers.battle_files import lmsys
from tests.helpers.once import once
from tests.helpers.planted import save_shallow_model
from tests.helpers.tiny import save_tiny_model
from tests.helpers.tuned_runs import QUICK, extracted


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return once(tmp_path_factory, "model", save_tiny_model)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory, model_folder):
    def make(folder):
        train, test = lmsys(folder / "train.csv"), lmsys(folder / "test.csv", 12, 1, labelled=False)
        run = str(folder / "run")
        argv = ["--train", str(train), "--test", str(test), "--run", run]
        assert extract.command([*argv, "--backbone", str(model_folder)]) == 0
        small = ["--trials", "2", "--bags", "1", "--folds", "3"]
        assert train_meta.command(["--run", run, *small]) == 0
        assert submit.command(["--run", run]) == 0

    return once(tmp_path_factory, "trained", make) / "run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, trained_once):
    """A run with a model and a test set, beside the files it is of."""
    return shutil.copytree(trained_once.parent, tmp_path_factory.mktemp("own") / "files") / "run"


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    return once(tmp_path_factory, "toy", save_shallow_model)


@pytest.fixture(scope="session")
def tuned_once(tmp_path_factory, toy_folder):
    def make(folder):
        run = extracted(folder, toy_folder)
        assert finetune.command(["--run", str(run), *QUICK]) == 0

    return once(tmp_path_factory, "tuned", make) / "run"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, tuned_once):
    """A run with judges of a shallow model."""
    return shutil.copytree(tuned_once, tmp_path_factory.mktemp("own") / "run")
