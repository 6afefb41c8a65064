"""What judges and frozen states say in memory is what finetune.py wrote."""

import numpy as np
import pytest

from arena.battle_table import read_battles_table
from arena.feature_table import FeatureTable
from arena.swap import swap_battles
from common.errors import Code
from common.parquet import read_notes
from common.run_dir import RunDir
from embeddings import replicas
from embeddings.frozen import pair_states
from embeddings.frozen.pair_states import PairStates, read_joint
from embeddings.judge import cross_fit
from embeddings.judge import replicas as judge_replicas
from embeddings.judge.view import JudgeLogits
from pipelines import finetune
from tests.helpers.errors import raises
from tests.helpers.planted import save_shallow_model
from tests.helpers.tuned_runs import QUICK, extracted

FROZEN = ["--folds", "2", "--max-tokens", "256", "--epochs", "0"]
VIEWS = {
    "logits-mean": QUICK,
    "logits-average": [*QUICK, "--average-adapters"],
    "logits-top": [*QUICK, "--top-layers", "1", "--predict-tokens", "200"],
    "logits-last": [*QUICK, "--pool", "last"],
    "logits-frozen": [*FROZEN, "--average-adapters"],
    # The view joint is that of the last command.
    "logits-heads": [*FROZEN, "--read-layers", "0.5,1"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a view of judges of each kind."""
    model = save_shallow_model(tmp_path_factory.mktemp("models") / "toy")
    folder = extracted(tmp_path_factory.mktemp("run"), model)
    for name, argv in VIEWS.items():
        assert finetune.command(["--run", str(folder), "--view", name, *argv]) == 0
    return RunDir(folder)


@pytest.fixture
def reads(monkeypatch):
    """The number of sequences of every reading."""
    counts, fill = [], cross_fit.read_into_store

    def counting(store, todo, *how):
        counts.append(len(todo))
        fill(store, todo, *how)

    for module in (cross_fit, judge_replicas, replicas):
        monkeypatch.setattr(module, "read_into_store", counting)
    return counts


def battles(run):
    return read_battles_table(run.battles("test"))


def test_logits_in_memory_are_those_on_disk_to_the_bit(run):
    shared = {}
    for name in VIEWS:
        path = run.views / name / "test.parquet"
        written = FeatureTable.read(path)
        table = JudgeLogits.of_run(run, name, shared).transform(battles(run))
        assert (table.ids, table.columns) == (written.ids, written.columns)
        assert np.array_equal(table.values, written.values), name
        assert read_notes(path)["kind"] == "logits"


def test_a_second_call_reads_its_own_battles_only(run, reads):
    view = JudgeLogits.of_run(run, "logits-mean", {})
    first = view.transform(battles(run)[:3])
    reads.clear()
    assert np.array_equal(view.transform(battles(run)[:3]).values, first.values)
    assert reads == []
    view.transform(battles(run)[:4])
    # One more battle in both orders, by two judges.
    assert reads == [2, 2]


def test_the_output_of_lower_layers_is_dropped_at_the_next_call(run, monkeypatch):
    monkeypatch.setattr(pair_states, "MOST_LOWER", 1)
    shared = {}
    view = JudgeLogits.of_run(run, "logits-top", shared)
    view.transform(battles(run)[:3])
    view.transform(battles(run)[3:4])
    (lower,) = (store for key, store in shared.items() if str(key).startswith("lower-"))
    # The last battle, in both orders.
    assert len(lower) == 2


def test_nothing_is_written_into_the_run(run):
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
    JudgeLogits.of_run(run, "logits-top", {}).transform(swap_battles(battles(run)))
    PairStates.of_run(run, {}).read(swap_battles(battles(run)))
    assert before == {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}


def test_swapped_battles_give_the_swapped_logits_to_the_bit(run):
    view = JudgeLogits.of_run(run, "logits-average", {})
    there, back = view.transform(battles(run)), view.transform(swap_battles(battles(run)))
    assert np.array_equal(there.swap().values, back.values)


def test_pair_states_in_memory_are_those_on_disk_to_the_bit(run):
    written = read_joint(run.views, run.judges, "test")
    states = PairStates.of_run(run, {}).read(battles(run))
    assert (states.ids, states.slots, states.source) == (
        written.ids,
        written.slots,
        written.source,
    )
    assert len(states.slots) == 6
    for number in range(6):
        assert np.array_equal(states.slot(number), written.slot(number))


def test_no_battles_give_no_rows(run):
    none, shared = battles(run)[:0], {}
    for name in VIEWS:
        assert JudgeLogits.of_run(run, name, shared).transform(none).values.shape == (0, 6)
    states = PairStates.of_run(run, shared).read(none)
    assert [len(side) for side in states.slot(5)] == [0, 0]
    assert not [key for key in shared if key[0] in ("judge", "pair reader")]


def test_heads_and_pair_probes_share_the_frozen_states(run, reads):
    shared = {}
    PairStates.of_run(run, shared).read(battles(run))
    reads.clear()
    JudgeLogits.of_run(run, "logits-heads", shared).transform(battles(run))
    # The heads of two judges; no language model.
    assert reads == [10, 10]
    assert not [key for key in shared if key[0] == "judge"]


@pytest.mark.parametrize("judges", [None, [], ["../elsewhere"], ["0" * 16]])
def test_a_run_that_lacks_its_judges_names_the_command(run, judges):
    entry = run.read_record()["finetune"]["logits-mean"]
    del entry["judges"]
    run.update_record(
        finetune={"logits-old": {**entry, **({} if judges is None else {"judges": judges})}}
    )
    with raises(Code.VIEW_OUTDATED):
        JudgeLogits.of_run(run, "logits-old", {})


@pytest.mark.parametrize("name", ["logits-mean", "logits-average"])
def test_judges_of_another_backbone_are_refused(run, name):
    entry = run.read_record()["finetune"][name]
    config = {**entry["backbone"]["config"], "dtype": "float32"}
    changed = {**entry, "backbone": {**entry["backbone"], "config": config}}
    run.update_record(finetune={"logits-changed": changed})
    with raises(Code.BACKBONE_DIFFERS):
        JudgeLogits.of_run(run, "logits-changed", {})


def test_a_run_that_does_not_say_how_pairs_were_read_names_the_command(tmp_path):
    with raises(Code.VIEW_OUTDATED):
        PairStates.of_run(RunDir(tmp_path), {})
