"""The language model in memory says what an extraction writes to disk, and reads nothing twice."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from arena.feature_table import FeatureTable
from common.errors import Code
from common.run_dir import RunDir
from embeddings import inference
from embeddings.cache.shards import ShardStore
from embeddings.frozen import answer_reader
from embeddings.frozen.language_model import LanguageModel
from embeddings.frozen.likelihood import Likelihood, language_model_of
from embeddings.frozen.states import HiddenStates
from embeddings.prompts import chat_template
from tests.helpers.errors import raises
from tests.helpers.extracted import BATTLES, FEW, extract_all
from tests.helpers.tiny import save_tiny_model
from tiebreak.run_record import as_json

pytestmark = pytest.mark.usefixtures("small_shards")


@pytest.fixture(scope="module")
def config(configs):
    return configs["llama"]


@pytest.fixture
def run(tmp_path, config):
    """A run whose training battles are the few."""
    run = RunDir(tmp_path / "run")
    run.update_record(
        backbone={
            "asked": config.source,
            "quantization": "none",
            "engine": "torch",
            "config": as_json(config),
        }
    )
    extract_all(FEW, config, run.views, "train")
    return run


def assert_equal(evidence, folder, split, rows=slice(None)):
    """Compare evidence with the battles at ``rows`` of an extracted split."""
    written = HiddenStates.read(folder, split)
    view = FeatureTable.read(folder / "likelihood" / f"{split}.parquet")
    assert evidence.states.ids == evidence.likelihood.ids == np.array(written.ids)[rows].tolist()
    assert evidence.states.slots == written.slots
    assert evidence.states.source == written.source
    assert evidence.likelihood.columns == view.columns
    np.testing.assert_array_equal(evidence.likelihood.values, view.values[rows])
    for slot in range(len(written.slots)):
        for in_memory, on_disk in zip(evidence.states.slot(slot), written.slot(slot), strict=True):
            assert in_memory.dtype == on_disk.dtype == np.float16
            np.testing.assert_array_equal(in_memory, on_disk[rows])


def test_the_numbers_are_those_that_an_extraction_writes(calm, config):
    assert_equal(LanguageModel(config).read(BATTLES), calm, "train")


def test_every_architecture_gives_what_its_extraction_writes(configs, architecture, tmp_path):
    config = configs[architecture]
    extract_all(FEW, config, tmp_path, "train")
    assert_equal(LanguageModel(config).read(FEW), tmp_path, "train")


def test_a_second_call_reads_nothing(calm, config, counted):
    model = LanguageModel(config)
    model.read(BATTLES)
    counted.items = 0
    assert_equal(model.read(BATTLES.iloc[[3, 1]]), calm, "train", [3, 1])
    assert counted.items == 0


def test_an_answer_that_stands_twice_is_read_once(calm, config, counted):
    twice = pd.concat([FEW, FEW])
    assert_equal(LanguageModel(config).read(twice), calm, "train", [0, 1, 2, 0, 1, 2])
    assert counted.items == 6


def test_answers_of_a_store_are_not_read(calm, config, counted, tmp_path):
    extract_all(FEW, config, tmp_path, "train")
    source = HiddenStates.read(tmp_path, "train").source
    model = LanguageModel(config, store=ShardStore(tmp_path / "hidden" / source))
    counted.items = 0
    assert_equal(model.read(BATTLES), calm, "train")
    assert counted.items == 2 * (len(BATTLES) - len(FEW))


def test_the_model_is_loaded_for_the_first_answer_and_kept(config, monkeypatch):
    loads, load = [], answer_reader.load_backbone
    monkeypatch.setattr(answer_reader, "load_backbone", lambda c: loads.append(c) or load(c))
    model = LanguageModel(config)
    model.read(FEW[:0])
    assert loads == []
    model.read(FEW[:1])
    model.read(FEW)
    assert loads == [config]


def test_a_tokenizer_is_copied_once(config, monkeypatch):
    model, copies, clone = LanguageModel(config), [], chat_template._clone
    monkeypatch.setattr(chat_template, "_clone", lambda b: copies.append(b) or clone(b))
    model.read(FEW[:1])
    model.read(FEW)
    # One for the structure and one for the texts.
    assert len(copies) == 2


def test_no_battles_give_no_rows(config):
    evidence = LanguageModel(config).read(BATTLES[:0])
    assert evidence.likelihood.values.shape == (0, 27)
    assert [len(side) for side in evidence.states.slot(0)] == [0, 0]


def test_few_answers_are_read_quietly_and_many_with_progress(config, capsys, monkeypatch):
    LanguageModel(config).read(FEW)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(inference, "SHARD_ITEMS", 5)
    LanguageModel(config).read(FEW)
    assert "tokens" in capsys.readouterr().err


def test_the_view_of_a_run_gives_what_the_run_has_on_disk(run):
    view = Likelihood.of_run(run, "likelihood", {})
    written = FeatureTable.read(run.views / "likelihood" / "train.parquet")
    table = view.transform(FEW)
    assert table.ids == written.ids
    np.testing.assert_array_equal(table.values, written.values)


def test_views_of_a_run_share_one_language_model(run):
    shared = {}
    view = Likelihood.of_run(run, "likelihood", shared)
    assert language_model_of(run, shared) is view.model


def test_a_record_from_before_the_settings_were_kept_names_the_backbone(run, config):
    record = run.read_record()
    del record["backbone"]["config"], record["backbone"]["engine"]
    run.record.unlink()
    run.update_record(**record)
    assert language_model_of(run, {}).config == config


def test_a_run_without_a_language_model_is_refused(tmp_path):
    with raises(Code.SPLIT_NOT_EXTRACTED):
        language_model_of(RunDir(tmp_path), {})


@pytest.mark.parametrize(
    ("keep_settings", "code"), [(True, Code.BACKBONE_MOVED), (False, Code.BACKBONE_UNKNOWN)]
)
def test_a_model_folder_that_is_gone_is_named(run, tmp_path, config, keep_settings, code):
    gone = tmp_path / "gone"
    record = {"asked": str(gone), "quantization": "none"}
    if keep_settings:
        record["config"] = as_json(replace(config, source=str(gone)))
    run.record.unlink()
    run.update_record(backbone=record)
    with raises(code, match=str(gone)):
        language_model_of(run, {})


def test_damaged_settings_in_the_record_are_refused(run):
    run.update_record(backbone={"config": {"layers": 3}})
    with raises(Code.BACKBONE_CONFIG_INVALID, match=r"run\.json"):
        language_model_of(run, {})


def test_another_model_than_read_the_training_battles_is_refused(run, config, tmp_path):
    other = replace(config, source=str(save_tiny_model(tmp_path / "other", "qwen2")))
    run.update_record(backbone={"config": as_json(other)})
    with raises(Code.BACKBONE_DIFFERS):
        Likelihood.of_run(run, "likelihood", {}).transform(FEW)
