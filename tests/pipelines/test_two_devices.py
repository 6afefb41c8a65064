"""extract.py, verdict.py and finetune.py with two processes, which stand in for two cards."""

import pytest

from common.errors import Code
from embeddings.replicas import DEVICES
from pipelines import extract, finetune, verdict
from tests.helpers.battle_files import lmsys
from tests.helpers.errors import error_line
from tests.helpers.tuned_runs import QUICK, extracted

LAYERS = ["--top-layers", "1", "--epochs", "1"]


def made(run, *folders):
    """Bytes of all that was read and trained; what training took is not the same twice."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for folder in folders
        for path in sorted((run / folder).rglob("*"))
        if path.is_file() and path.name not in ("training.json", ".lock")
    }


@pytest.mark.slow
def test_the_commands_make_the_same_bytes(tmp_path, toy_folder, monkeypatch, capfd):
    runs = {}
    for name, devices in (("one", ""), ("two", "cpu,cpu")):
        monkeypatch.setenv(DEVICES, devices)
        (tmp_path / name).mkdir()
        # More answers than a shard has.
        run = runs[name] = extracted(tmp_path / name, toy_folder, 40)
        assert verdict.command(["--run", str(run)]) == 0
        assert finetune.command(["--run", str(run), *QUICK, *LAYERS]) == 0
    told = capfd.readouterr().out
    for what in (
        "toy reads",
        "toy answers",
        "toy lower layers",
        "frozen states",
        "judge 1 of 2 on the battles it left out",
    ):
        assert told.count(f"{what} with a process each on cpu, cpu") == 1
    assert told.count("2 judges are trained, one at a time on cpu, cpu") == 1
    folders = ("views", "verdict", "finetune")
    one, two = (made(run, *folders) for run in runs.values())
    assert len(one) > 20
    assert two.keys() == one.keys()
    assert [path for path in one if two[path] != one[path]] == []


def test_a_device_that_is_not_there_is_one_line(tmp_path, model_folder, monkeypatch, capsys):
    monkeypatch.setenv(DEVICES, "cpu,cuda:7")
    train = ["--train", str(lmsys(tmp_path / "train.csv"))]
    run = ["--run", str(tmp_path / "run"), "--backbone", str(model_folder)]
    for more in ([], ["--dry-run"]):
        assert extract.command([*train, *run, *more]) == 2
        assert "cuda:7" in error_line(capsys, Code.OPTION_INVALID)
    assert not (tmp_path / "run").exists()
