"""Evidence of other battles, of another backbone or engine is refused, and never scored."""

import json
import shutil
from hashlib import sha256

import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from arena.feature_table import FeatureTable
from common.errors import Code
from common.parquet import read_notes, read_table, write_table
from common.run_dir import RunDir
from embeddings.backbone.config import load_config
from embeddings.cache.shards import settings_hash
from embeddings.frozen.extract import evidence_settings
from pipelines import extract, submit
from tests.helpers.battle_files import lmsys
from tests.helpers.errors import error_line
from tiebreak import extraction, extraction_options


def test_another_backbone_for_the_test_set_alone_is_refused(trained, tmp_path, capsys):
    argv = ["--test", str(trained.parent / "test.csv"), "--run", str(trained)]
    assert extract.command([*argv, "--quantization", "nf4"]) == 2
    error_line(capsys, Code.BACKBONE_DIFFERS)


@pytest.mark.parametrize("left", ["model", "model.old", None])
def test_another_model_of_the_same_width_for_the_test_set_alone_is_refused(
    trained, tmp_path, model_folder, capsys, left
):
    """With a model, with what kill -9 leaves between its two renames, and without one."""
    run = shutil.copytree(trained, tmp_path / "run")
    if left:
        (run / "model").rename(run / left)
    else:
        shutil.rmtree(run / "model")
    other = shutil.copytree(model_folder, tmp_path / "other")
    (path,) = other.glob("*.safetensors")
    save_file({n: -v for n, v in load_file(path).items()}, path, metadata={"format": "pt"})
    argv = ["--test", str(trained.parent / "test.csv"), "--run", str(run), "--backbone"]
    before = (run / "run.json").read_bytes()
    assert extract.command([*argv, str(other)]) == 2
    error_line(capsys, Code.BACKBONE_DIFFERS)
    assert (run / "run.json").read_bytes() == before


def test_a_call_that_finds_all_done_does_not_hide_what_it_took(trained, tmp_path):
    run = RunDir(shutil.copytree(trained, tmp_path / "run"))
    argv = ["--run", str(run.folder), "--train", str(trained.parent / "train.csv")]
    run.update_record(seconds={"style_train": 1e6}, peak_mib={"language_model_train": 1e6})
    assert extract.command(argv) == 0
    record = run.read_record()
    assert record["seconds"]["style_train"] == record["peak_mib"]["language_model_train"] == 1e6
    # Another backbone costs what it costs.
    assert extract.command([*argv, "--quantization", "nf4"]) == 0
    record = run.read_record()
    assert record["seconds"]["style_train"] < 1e3
    assert record["peak_mib"]["language_model_train"] < 1e5


def test_a_model_folder_that_was_moved_is_still_the_same(trained, tmp_path, model_folder):
    run, moved = (shutil.copytree(trained, tmp_path / "run"), tmp_path / "moved")
    shutil.copytree(model_folder, moved)
    argv = ["--test", str(trained.parent / "test.csv"), "--run", str(run)]
    assert extract.command([*argv, "--backbone", str(moved)]) == 0
    assert submit.command(["--run", str(run)]) == 0


def test_another_engine_for_the_test_set_alone_is_refused_and_the_own_one_is_kept(
    trained, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    argv = ["--test", str(trained.parent / "test.csv"), "--run", str(run)]
    # A run of before there was a choice.
    record = json.loads((run / "run.json").read_text())
    assert record["backbone"].pop("engine") == "torch"
    (run / "run.json").write_text(json.dumps(record))
    monkeypatch.setattr(extraction_options, "select_engine", lambda asked, _: (asked, ""))
    assert extract.command([*argv, "--engine", "openvino"]) == 2
    error_line(capsys, Code.BACKBONE_DIFFERS)
    record["backbone"]["engine"] = "openvino"
    config = load_config(record["backbone"]["asked"])
    path = run / "views" / "hidden" / "train.parquet"
    notes = read_notes(path) | {"source": settings_hash(evidence_settings(config, "openvino"))}
    del notes["ARROW:schema"]
    write_table(path, read_table(path).replace_schema_metadata(notes))
    (run / "run.json").write_text(json.dumps(record))
    asked = []
    monkeypatch.setattr(
        extraction_options, "select_engine", lambda name, _: (asked.append(name) or name, "")
    )
    monkeypatch.setattr(
        extraction,
        "_write_views",
        lambda run, split, summary, model, same: asked.append(model.engine),
    )
    assert extract.command(argv) == 0
    assert asked == ["openvino", "openvino"]
    assert extract.command([*argv, "--engine", "torch"]) == 2


def test_other_texts_under_the_same_ids_are_not_scored_with_the_evidence_of_before(
    trained, tmp_path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    table = pd.read_csv(lmsys(tmp_path / "t.csv", 12, 1, labelled=False), dtype=str)
    table.assign(response_a=table["response_b"]).to_csv(tmp_path / "t.csv", index=False)
    whole = shutil.copytree(run, tmp_path / "whole")
    assert extract.command(["--test", str(tmp_path / "t.csv"), "--run", str(whole)]) == 0
    assert submit.command(["--run", str(whole)]) == 0
    # As kill -9 leaves it behind the first file that is written.
    shutil.copy(whole / "battles" / "test.parquet", run / "battles")
    capsys.readouterr()
    assert submit.command(["--run", str(run)]) == 2
    assert "`python pipelines/extract.py" in error_line(capsys, Code.VIEW_OUTDATED)


def test_handcrafted_signals_that_do_not_say_of_which_texts_they_are_are_made_again(
    trained, tmp_path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    path = run / "views" / "style" / "test.parquet"
    sound = path.read_bytes()
    FeatureTable.read(path).write(path)
    record = json.loads((run / "run.json").read_text())
    stamp = f"{record['style']['test'].rsplit(' ', 1)[0]} {sha256(path.read_bytes()).hexdigest()}"
    record["style"]["test"] = stamp
    (run / "run.json").write_text(json.dumps(record))
    argv = ["--test", record["inputs"]["test"]["file"], "--run", str(run)]
    assert extract.command(argv) == 0
    assert "stand already" not in capsys.readouterr().out
    assert path.read_bytes() == sound
