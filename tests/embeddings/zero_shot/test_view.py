"""What a zero-shot model says in memory is what verdict.py wrote."""

import numpy as np
import pytest

from arena.battle_table import read_battles_table
from arena.feature_table import FeatureTable
from arena.swap import swap_battles
from common.errors import Code, UserError
from common.parquet import read_notes
from common.run_dir import RunDir
from embeddings import replicas
from embeddings.zero_shot import judge
from embeddings.zero_shot.http_client import API_KEY
from embeddings.zero_shot.view import ZeroShotVerdict
from pipelines import verdict
from tests.helpers.errors import raises
from tests.helpers.fake_server import serve
from tests.helpers.planted import save_shallow_model
from tests.helpers.tuned_runs import extracted


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    model = save_shallow_model(tmp_path_factory.mktemp("models") / "toy")
    folder = extracted(tmp_path_factory.mktemp("run"), model, n=6)
    assert verdict.command(["--run", str(folder), "--max-tokens", "300"]) == 0
    return RunDir(folder)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv(API_KEY, raising=False)


def battles(run):
    return read_battles_table(run.battles("test"))


def assert_written(run, name):
    path = run.views / name / "test.parquet"
    written = FeatureTable.read(path)
    table = ZeroShotVerdict.of_run(run, name, {}).transform(battles(run))
    assert (table.ids, table.columns) == (written.ids, written.columns)
    assert np.array_equal(table.values, written.values)
    assert read_notes(path)["kind"] == "verdict"


def test_a_local_verdict_in_memory_is_that_on_disk_to_the_bit(run):
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
    assert_written(run, "verdict-toy")
    assert before == {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}


def test_a_second_call_loads_nothing_and_reads_its_own_battles_only(run, monkeypatch):
    shared, counts, fill = {}, [], replicas.read_into_store
    view = ZeroShotVerdict.of_run(run, "verdict-toy", shared)
    first = view.transform(battles(run)[:2])
    monkeypatch.setattr(judge, "load_backbone", None)
    monkeypatch.setattr(
        replicas,
        "read_into_store",
        lambda said, todo, *how: (counts.append(len(todo)), fill(said, todo, *how)),
    )
    again = ZeroShotVerdict.of_run(run, "verdict-toy", shared)
    assert np.array_equal(again.transform(battles(run)[:3]).values[:2], first.values)
    assert counts == [2]
    swapped = view.transform(swap_battles(battles(run)[:2]))
    assert np.array_equal(swapped.values, first.swap().values)
    assert counts == [2]


def test_an_endpoint_of_the_record_is_queried_for_new_battles_only(run, monkeypatch, capsys):
    with serve(models=("far",)) as server:
        argv = ["--run", str(run.folder), "--endpoint", server.url, "--model", "far"]
        assert verdict.command(argv) == 0
        known = len(server.prompts)
        assert_written(run, "verdict-far")
        assert len(server.prompts) == known
        other = battles(run)[:1]
        other["prompt"] = [["Another prompt"]]
        ZeroShotVerdict.of_run(run, "verdict-far", {}).transform(other)
        assert len(server.prompts) == known + 2
        assert server.url in capsys.readouterr().err
        server.keys.clear()
        monkeypatch.setenv(API_KEY, "secret")
        with raises(Code.API_KEY_WITHHELD):
            ZeroShotVerdict.of_run(run, "verdict-far", {})
        assert server.keys == set()


def test_answers_of_an_endpoint_need_no_place_in_a_run_that_cannot_be_written(run, monkeypatch):
    def refuse(path, advice):
        raise UserError(Code.OUTPUT_INVALID, f"{path} cannot be written. {advice}")

    with serve(models=("near",)) as server:
        argv = ["--run", str(run.folder), "--endpoint", server.url, "--model", "near"]
        assert verdict.command(argv) == 0
        kept = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
        monkeypatch.setattr("embeddings.zero_shot.view.check_writable", refuse)
        other, shared = battles(run)[:1], {}
        other["prompt"] = [["One more prompt"]]
        first = ZeroShotVerdict.of_run(run, "verdict-near", shared).transform(other)
        asked = len(server.prompts)
        again = ZeroShotVerdict.of_run(run, "verdict-near", shared).transform(other)
    assert len(server.prompts) == asked
    assert np.array_equal(first.values, again.values)
    assert kept == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


def test_a_view_that_the_record_does_not_have_names_the_command(run):
    with raises(Code.VIEW_OUTDATED):
        ZeroShotVerdict.of_run(run, "verdict-other", {})


def test_an_endpoint_of_the_record_must_be_a_url(run):
    entry = {
        "backbone": {"asked": "", "quantization": None},
        "endpoint": {"url": "file:///etc/passwd", "model": "far"},
        "max_tokens": 300,
    }
    run.update_record(verdict={"verdict-file": entry})
    with raises(Code.ENDPOINT_INVALID):
        ZeroShotVerdict.of_run(run, "verdict-file", {})
