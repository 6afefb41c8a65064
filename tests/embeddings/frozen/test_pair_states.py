"""The frozen states of both answers in one sequence."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from arena.battle_table import texts_hash
from arena.swap import swap_battles
from common.errors import Code
from common.run_dir import RunDir
from embeddings.backbone import device
from embeddings.backbone.config import load_config
from embeddings.backbone.load import load_backbone, load_tokenizer
from embeddings.frozen.pair_replicas import inputs_from
from embeddings.frozen.pair_states import PairStates, read_joint, write_joint
from embeddings.judge.cross_fit import Judges
from embeddings.judge.model import Judge
from embeddings.prompts.pairs import distinct, pack_pairs
from meta.base_models.pair_probe import PairProbe
from tests.helpers.errors import raises
from tests.helpers.planted import QUICK, planted, save_shallow_model

BATTLES = planted(12)
RECIPE = replace(QUICK, read_layers="0.5,1")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = save_shallow_model(tmp_path_factory.mktemp("model"))
    return replace(load_config(str(folder)), dtype="float32")


def joint(battles, config, folder):
    """What finetune.py does of these battles, and the states that come of it."""
    run = RunDir(folder)
    judges = Judges(config, RECIPE, run.judges, checkpoint_steps=100)
    table = pack_pairs(battles, load_tokenizer(config), RECIPE.max_tokens)
    judges.prepare(table)
    frozen, texts = judges.frozen, texts_hash(battles)
    layers = frozen.layers.reads
    write_joint(run.views, "train", table, texts, frozen.name, layers, frozen.suffix)
    return run, table, read_joint(run.views, run.judges, "train")


def test_a_gpus_states_lie_in_a_store_of_their_own(config, tmp_path, monkeypatch):
    _, _, found = joint(BATTLES, config, tmp_path)
    monkeypatch.setattr(device, "default_device", lambda: torch.device("cuda"))
    run, _, again = joint(BATTLES, config, tmp_path)
    assert again.source == found.source
    assert (run.judges / f"{found.source}-cuda").is_dir()
    shutil.rmtree(run.judges / found.source)
    assert np.array_equal(read_joint(run.views, run.judges, "train").slot(0)[0], again.slot(0)[0])


def test_a_worker_process_finds_what_a_gpus_lower_layers_gave(config, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "default_device", lambda: torch.device("cuda"))
    states = PairStates(config, "1", top_layers=1, folder=tmp_path)
    pairs = pack_pairs(BATTLES, load_tokenizer(config), RECIPE.max_tokens)
    states.fill(distinct(pairs))
    there = inputs_from(states.lower_folder)
    for sequence in pairs.forward:
        assert torch.equal(there(sequence), states.inputs(sequence))


def test_slots_are_the_states_that_a_fresh_judge_reads(config, tmp_path):
    _, table, found = joint(BATTLES, config, tmp_path)
    names = [f"layer{n}.{what}" for n in (1, 2) for what in ("last", "first", "second")]
    assert found.slots == names
    judge = Judge(load_backbone(config), RECIPE).eval()
    with torch.inference_mode():
        ab, ba = (
            judge.reader.states([side[3]])[0].numpy() for side in (table.forward, table.swapped)
        )
    for number, (a, b) in enumerate(
        [(ab[0], ba[0]), (ab[1], ba[1]), (ba[2], ab[2]), (ab[4], ba[4])]
    ):
        for side, expected in zip(found.slot(number), (a, b), strict=True):
            assert np.allclose(side[3], expected, atol=1e-2)
    assert not np.allclose(ab[1], ba[2], atol=1e-2)


def test_exchanged_answers_exchange_the_states_and_the_view(config, tmp_path):
    run, _, found = joint(BATTLES, config, tmp_path / "one")
    other, _, swapped = joint(swap_battles(BATTLES), config, tmp_path / "two")
    for number in range(len(found.slots)):
        a, b = found.slot(number)
        assert np.array_equal(swapped.slot(number)[0], b)
        assert np.array_equal(swapped.slot(number)[1], a)
    rows, labels = np.arange(12), BATTLES["label"].to_numpy()
    probes, others = (PairProbe.of_split(r, "train", BATTLES, {}) for r in (run, other))
    model = probes.fit(rows, labels)
    values, back = probes.values(model, rows), others.values(model, rows)
    assert probes.columns["layer1.last.side"].parity == "anti"
    anti = np.array([c.parity == "anti" for c in probes.columns.values()])
    assert np.allclose(values[:, anti], -back[:, anti], atol=1e-5)
    assert np.allclose(values[:, ~anti], back[:, ~anti], atol=1e-5)
    assert {c.family for c in probes.columns.values()} == {"joint"}


def test_a_model_refuses_the_states_of_other_settings(config, tmp_path):
    run, _, _ = joint(BATTLES, config, tmp_path)
    rows = np.arange(12)
    probes = PairProbe.of_split(run, "train", BATTLES, {})
    model = probes.fit(rows, BATTLES["label"].to_numpy())
    assert len(probes.unseen(model).ids) == 12
    run, _, _ = joint(BATTLES, replace(config, dtype="bfloat16"), tmp_path)
    other = PairProbe.of_split(run, "train", BATTLES, {})
    assert other.states.slots == probes.states.slots
    with raises(Code.VIEW_DIFFERS, match="joint"):
        other.values(model, rows)
    # As models of before were kept.
    del model["source"]
    with raises(Code.VIEW_DIFFERS, match="joint"):
        probes.values(model, rows)


def test_a_run_without_them_has_no_view_and_a_damaged_one_is_one_line(config, tmp_path):
    assert PairProbe.of_split(RunDir(tmp_path / "none"), "train", BATTLES, {}) is None
    run, table, _ = joint(BATTLES, config, tmp_path)
    write_joint(run.views, "train", table, "", "../elsewhere", (1, 2))
    with raises(Code.RUN_FILE_DAMAGED, match="joint"):
        PairProbe.of_split(run, "train", BATTLES, {})
