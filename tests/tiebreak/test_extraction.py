"""What an extraction asks before it reads, and runs without a language model."""

import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from arena.feature_table import FeatureTable
from arena.reader import open_battles
from common import files
from common.errors import Code
from common.parquet import read_notes
from common.run_dir import SPLITS, RunDir
from embeddings.backbone import load
from embeddings.backbone.config import UNCONDITIONAL_TOKENS, load_config
from embeddings.frozen.answer_reader import evidence_settings
from embeddings.frozen.log_likelihood import UNCONDITIONAL
from pipelines import cli, extract, submit, train_meta
from tests.helpers.battle_files import lmsys
from tests.helpers.cards import A100, install
from tests.helpers.errors import error_line, raises
from tests.helpers.tiny import save_tiny_model
from tiebreak import Tiebreak
from tiebreak.extraction import extract_run, plan_run
from tiebreak.extraction_options import Extraction, ExtractionOptions, resolve
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


def test_that_16_bits_would_fit_is_told_before_the_first_reading_only(
    tmp_path, model_folder, monkeypatch, capsys
):
    backbone = tmp_path / "toy.yaml"
    backbone.write_text(f"source: {model_folder}\ndtype: bfloat16\nquantization: int8\n")
    install(monkeypatch, A100)
    run, options = RunDir(tmp_path / "run"), ExtractionOptions(str(backbone))

    def told(options, split="train"):
        extraction = resolve(run, [split], options)
        return "--quantization none" in capsys.readouterr().out, extraction

    assert told(replace(options, quantization="int8"))[0] is False
    assert told(options, "test")[0] is False
    first, extraction = told(options)
    assert first is True
    run.update_record(backbone=extraction.entry())
    assert told(options)[0] is False


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


def test_what_is_not_named_is_recorded_as_before(model_folder):
    entry = Extraction.of(ExtractionOptions(str(model_folder)), {}).entry()
    assert not {"state_bits", "unconditional_tokens"} & set(entry)
    assert "state_bits" not in entry["config"]


def test_without_readings_without_prompts_a_run_lacks_their_columns_throughout(own, model_folder):
    run, test = RunDir(own / "short"), own / "test.csv"
    options = ExtractionOptions(str(model_folder), unconditional_tokens=0)
    assert re.search(
        r" with the prompt, 0 without$", plan(run, options, path=own / "train.csv"), re.M
    )
    extracted(run, options, path=own / "train.csv")
    # Another number is refused where it is named, and what is not named is the run's.
    with raises(Code.BACKBONE_DIFFERS, match="--unconditional-tokens"):
        extracted(run, ExtractionOptions(unconditional_tokens=3), "test", test)
    extracted(run, ExtractionOptions(), "test", test)
    for split in SPLITS:
        view = FeatureTable.read(run.views / "likelihood" / f"{split}.parquet")
        assert "mean.diff" in view.names
        assert not [name for name in view.names if name.startswith(UNCONDITIONAL)]
        assert np.isfinite(view.values).all()
    assert train_meta.command(["--run", str(run.folder), *QUICK]) == 0
    assert submit.command(["--run", str(run.folder)]) == 0
    submission = pd.read_csv(run.submission).drop(columns="id").to_numpy()
    p = Tiebreak.load(run.folder).predict_proba(pd.read_csv(test))
    assert p == pytest.approx(submission, abs=1e-6)


def test_training_battles_that_are_read_to_another_length_need_the_test_battles_again(
    own, model_folder
):
    run, backbone = RunDir(own / "longer"), str(model_folder)
    for split in SPLITS:
        extracted(run, ExtractionOptions(backbone), split, own / f"{split}.csv")
    extracted(run, ExtractionOptions(unconditional_tokens=3), path=own / "train.csv")
    assert run.read_record()["backbone"]["unconditional_tokens"] == 3
    assert train_meta.command(["--run", str(run.folder), *QUICK]) == 0
    assert submit.command(["--run", str(run.folder)]) == 2
    extracted(run, ExtractionOptions(), "test", own / "test.csv")
    assert submit.command(["--run", str(run.folder)]) == 0


def test_a_negative_number_of_tokens_is_refused(tmp_path, train, model_folder, capsys):
    options = ExtractionOptions(str(model_folder), unconditional_tokens=-1)
    with raises(Code.BACKBONE_CONFIG_INVALID, match="unconditional_tokens"):
        plan(RunDir(tmp_path / "run"), options, path=train)
    with pytest.raises(SystemExit, match="2"):
        extract.command(["--unconditional-tokens", "-1"])
    assert "--unconditional-tokens" in error_line(capsys, Code.USAGE)


def test_no_language_model_goes_with_no_number_of_its_tokens(tmp_path, train):
    options = ExtractionOptions(unconditional_tokens=0, language_model=False)
    with raises(Code.OPTIONS_CONFLICT, match="--unconditional-tokens"):
        plan(RunDir(tmp_path / "run"), options, path=train)


def test_the_address_has_the_tokens_that_the_embedded_model_has_not(model_folder):
    assert load_config("smollm2-135m").unconditional_tokens == UNCONDITIONAL_TOKENS
    for tokens in (0, UNCONDITIONAL_TOKENS, 200):
        settings = evidence_settings(load_config(str(model_folder), unconditional_tokens=tokens))
        named = None if tokens == UNCONDITIONAL_TOKENS else tokens
        assert settings.get("unconditional_tokens") == named
