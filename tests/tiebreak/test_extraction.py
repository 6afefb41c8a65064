"""What an extraction asks before it reads, and runs without a language model."""

import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from arena.reader import open_battles
from common import files
from common.errors import Code
from common.parquet import read_notes
from common.run_dir import SPLITS, RunDir
from embeddings.backbone import load
from pipelines import cli, extract, submit, train_meta
from tests.helpers.battle_files import lmsys
from tests.helpers.errors import error_line, raises
from tests.helpers.tiny import save_tiny_model
from tiebreak import Tiebreak
from tiebreak.extraction import extract_run, plan_run
from tiebreak.extraction_options import Extraction, ExtractionOptions
from tiebreak.finetuning import FinetuneOptions

SIGNALS = ExtractionOptions(language_model=False)
QUICK = ["--trials", "0", "--bags", "1", "--folds", "3"]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def train(tmp_path):
    return lmsys(tmp_path / "train.csv", 10)


def plan(run, options=SIGNALS, split="train", path=None):
    with open_battles(str(path), labelled=split == "train") as file:
        return "\n".join(plan_run(run, {split: file}, options))


def extracted(run, options=SIGNALS, split="train", path=None):
    """Extract the battles of a split; the names of its views."""
    with open_battles(str(path), labelled=split == "train") as file:
        extract_run(run, {split: file}, options, "the test")
    return {path.parent.name for path in run.views.glob(f"*/{split}.parquet")}


@pytest.mark.parametrize("call", [plan, extracted])
def test_a_card_without_kernels_ends_a_plan_and_an_extraction_before_anything_is_read(
    call, tmp_path, train, model_folder, monkeypatch
):
    for name, answer in {
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "get_device_capability": lambda _: (6, 0),
        "get_device_name": lambda _: "Tesla P100",
        "get_arch_list": lambda: ["sm_75"],
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    run = RunDir(tmp_path / "run")
    with raises(Code.GPU_UNSUPPORTED, match="Tesla P100"):
        call(run, ExtractionOptions(str(model_folder)), path=train)
    assert not run.folder.exists()
    # Signals need no card.
    assert call(run, path=train)


@pytest.mark.parametrize("call", [plan, extracted])
def test_a_disk_without_room_ends_a_plan_and_an_extraction_before_anything_is_read(
    call, tmp_path, train, model_folder, monkeypatch
):
    run = RunDir(tmp_path / "run")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with raises(Code.NO_ROOM, match="20 answers"):
        call(run, ExtractionOptions(str(model_folder)), path=train)
    assert not list(run.folder.glob("views/*"))


def test_what_is_stored_needs_no_more_room(tmp_path, train, model_folder, monkeypatch):
    run, options = RunDir(tmp_path / "run"), ExtractionOptions(str(model_folder))
    extracted(run, options, path=train)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "20" in plan(run, options, path=train)
    extracted(run, options, path=train)


def test_float16_is_refused_where_it_would_be_trained_before_anything_is_read(
    tmp_path, model_folder
):
    path = tmp_path / "half.yaml"
    path.write_text(f"source: {model_folder}\ndtype: float16\nmax_tokens: 256\n")
    named = {"backbone": str(path), "epochs": 1}
    with raises(Code.FLOAT16_UNTRAINABLE, match="half"):
        FinetuneOptions.of(RunDir(tmp_path), named)
    assert FinetuneOptions.of(RunDir(tmp_path), named | {"epochs": 0}).training.epochs == 0


def test_a_kernel_that_the_card_refuses_later_is_one_line(capsys):
    def refuse(_):
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with")

    assert cli.run(refuse, cli.parser("").parse_args([])) == 2
    assert "no kernel image is available" in error_line(capsys, Code.GPU_UNSUPPORTED)


@pytest.fixture(scope="module")
def signals(tmp_path_factory):
    """A trained run of handcrafted signals, beside the files that it is of."""
    folder = tmp_path_factory.mktemp("signals")
    train = lmsys(folder / "train.csv")
    lmsys(folder / "test.csv", 12, 1, labelled=False)
    run = str(folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        # No backbone is loaded, nor looked for.
        patch.setattr(load, "model_folder", None)
        argv = ["--train", str(train), "--run", run]
        assert extract.command([*argv, "--no-language-model", "--dry-run"]) == 0
        assert extract.command([*argv, "--no-language-model"]) == 0
    assert train_meta.command(["--run", run, *QUICK]) == 0
    return folder


@pytest.fixture
def own(signals, tmp_path):
    return shutil.copytree(signals, tmp_path / "own")


def test_a_run_of_signals_alone_predicts(own, monkeypatch):
    run = RunDir(own / "run")
    monkeypatch.setattr(load, "model_folder", None)
    # As for the training battles, none is asked for.
    assert extracted(run, ExtractionOptions(), "test", own / "test.csv") == {"style"}
    assert submit.command(["--run", str(run.folder)]) == 0
    submission = pd.read_csv(run.submission)
    assert len(submission) == 12
    table = pd.read_csv(own / "test.csv")
    p = Tiebreak.load(run.folder).predict_proba(table)
    assert p == pytest.approx(submission.drop(columns="id").to_numpy(), abs=1e-6)


def test_a_plan_of_signals_alone_says_so(own, monkeypatch):
    monkeypatch.setattr(load, "model_folder", None)
    text = plan(RunDir(own / "new"), path=own / "train.csv")
    assert "60 rows" in text
    assert "no language model" in text


def test_a_language_model_may_read_the_same_battles_later(own, model_folder):
    run = RunDir(own / "run")
    views = extracted(run, ExtractionOptions(str(model_folder)), path=own / "train.csv")
    assert views == {"style", "hidden", "likelihood"}
    # And a later call without it leaves them.
    assert extracted(run, path=own / "train.csv") == views


def test_test_battles_are_read_as_the_training_battles_were(own, model_folder):
    run, backbone = RunDir(own / "run"), ExtractionOptions(str(model_folder))
    test = own / "test.csv"
    with raises(Code.OPTIONS_CONFLICT, match="training battles"):
        extracted(run, backbone, "test", test)
    # The model of the run takes signals alone, whatever else there is of the training battles.
    extracted(run, backbone, path=own / "train.csv")
    assert extracted(run, SIGNALS, "test", test) == {"style"}
    shutil.rmtree(run.model)
    with raises(Code.OPTIONS_CONFLICT, match="--no-language-model"):
        extracted(run, SIGNALS, "test", test)


def test_what_a_language_model_said_of_other_battles_is_removed(own, model_folder, capsys):
    run = RunDir(own / "run")
    extracted(run, ExtractionOptions(str(model_folder)), path=own / "train.csv")
    stored = sorted(run.views.glob("hidden/*/*.safetensors"))
    assert stored
    assert extracted(run, path=lmsys(own / "other.csv", 20, 7)) == {"style"}
    assert "likelihood" in capsys.readouterr().out
    assert sorted(run.views.glob("hidden/*/*.safetensors")) == stored
    assert train_meta.command(["--run", str(run.folder), *QUICK]) == 0


def test_options_of_a_language_model_need_one(tmp_path, train):
    with raises(Code.OPTIONS_CONFLICT):
        plan(
            RunDir(tmp_path / "run"),
            ExtractionOptions("smollm2-135m", language_model=False),
            path=train,
        )


def test_training_on_signals_alone_reads_with_no_language_model(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "model_folder", None)
    table = pd.read_csv(lmsys(tmp_path / "train.csv"))
    model = Tiebreak.train(table, tmp_path / "run", views=["style"], trials=1, bags=1)
    assert list(model.views) == ["style"]
    assert not (tmp_path / "run" / "views" / "hidden").exists()


def test_a_dtype_that_is_named_stays_that_of_the_run(tmp_path, train, model_folder):
    run = RunDir(tmp_path / "run")
    extracted(run, ExtractionOptions(str(model_folder), dtype="float32"), path=train)
    record = run.read_record()
    assert record["backbone"]["config"]["dtype"] == "float32"
    assert Extraction.of(ExtractionOptions(), record).config.dtype == "float32"
    other = Extraction.of(ExtractionOptions(dtype="bfloat16"), record)
    assert other.config.dtype == "bfloat16"


def test_bits_that_are_named_stay_those_of_the_run(own, model_folder):
    run, options = RunDir(own / "smaller"), ExtractionOptions(str(model_folder), state_bits=8)
    assert "8 bits a value" in plan(run, options, path=own / "train.csv")
    extracted(run, options, path=own / "train.csv")
    extracted(run, ExtractionOptions(), "test", own / "test.csv")
    sources = [read_notes(run.views / "hidden" / f"{s}.parquet")["source"] for s in SPLITS]
    assert sources[0] == sources[1]
    # So they are at the third call, too, and others where these are named.
    for bits in (8, 16):
        record = {"backbone": Extraction.of(options, run.read_record()).entry()}
        assert Extraction.of(ExtractionOptions(), record).config.state_bits == bits
        options = ExtractionOptions(state_bits=16)
    with raises(Code.BACKBONE_DIFFERS):
        extracted(run, options, "test", own / "test.csv")


def test_a_run_of_16_bits_is_recorded_as_before(model_folder):
    entry = Extraction.of(ExtractionOptions(str(model_folder)), {}).entry()
    assert "state_bits" not in entry
    assert "state_bits" not in entry["config"]
