"""A model whose embedding of one token is infinite: its battles are named, all others as before."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from arena.feature_table import FeatureTable
from arena.folds import held_out
from arena.predictions_file import one_hot
from embeddings.backbone.config import load_config
from embeddings.backbone.load import load_tokenizer
from embeddings.frozen.states import HiddenStates
from embeddings.judge.cross_fit import Judges, crossfit
from embeddings.judge.dataset import JudgeDataset
from embeddings.prompts.pairs import pack_pairs
from meta.base_models.hidden_probe import HiddenProbe
from pipelines import verdict
from pipelines.extract import command as extract_command
from tests.helpers.battle_files import lmsys
from tests.helpers.extracted import extract_all
from tests.helpers.planted import QUICK, planted, save_shallow_model
from tests.helpers.tiny import tiny_battles

SOUND = [("Why?", "the cat runs", "a green dog"), ("How?", "", "the dog"), ("So?", "1", "a list")]
BROKEN = [("Why?", "the Ж cat", "a dog"), ("How? Ж", "yes", "no"), ("So?", "1", "a Ж")]


def spoil(folder):
    """Make infinite what stands for the letters in the model's embedding."""
    tokens = load_tokenizer(load_config(str(folder))).encode("Ж", add_special_tokens=False)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][tokens[0]] = torch.inf
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return save_shallow_model(tmp_path_factory.mktemp("sound") / "model")


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    folder = save_shallow_model(tmp_path_factory.mktemp("spoiled") / "model")
    spoil(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_evidence_of_sound_battles_stays_and_the_others_are_named(
    sound, spoiled, tmp_path, capsys, dtype
):
    battles = tiny_battles(*(row for both in zip(SOUND, BROKEN, strict=True) for row in both))
    views, states = [], []
    for folder in (sound, spoiled):
        config = replace(load_config(str(folder)), dtype=dtype)
        extract_all(battles, config, tmp_path / folder.parent.name, "train")
        views.append(
            FeatureTable.read(tmp_path / folder.parent.name / "likelihood" / "train.parquet")
        )
        states.append(HiddenStates.read(tmp_path / folder.parent.name, "train"))
    assert "3 battles are not finite" in capsys.readouterr().err
    was, found = views
    assert np.array_equal(found.values[::2], was.values[::2], equal_nan=True)
    assert np.isnan(found.values[1::2]).all()
    assert not np.isnan(was.values).all(axis=1).any()
    for slot in range(len(states[0].slots)):
        for before, after in zip(states[0].slot(slot), states[1].slot(slot), strict=True):
            assert np.array_equal(before[::2], after[::2])
    a, b = states[1].slot(0)
    assert np.isnan(a).all(axis=1).tolist() == [False, True, False, True, False, False]
    assert np.isnan(b).all(axis=1).tolist() == [False, False, False, True, False, True]


def probes(a, b):
    ids = [str(i) for i in range(len(a))]
    return HiddenProbe(HiddenStates(ids, ["layer1.mean"], lambda _, rows: (a[rows], b[rows])))


def test_probes_learn_from_finite_rows_alone_and_say_nothing_of_the_others():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 60, 4)).astype(np.float16)
    labels = rng.integers(0, 3, 60)
    rows = np.arange(60) % 5 != 0
    wanted = probes(a, b).fit(np.flatnonzero(rows), labels[rows])
    a[~rows] = np.nan
    spoiled_ones = probes(a, b)
    found = spoiled_ones.fit(np.arange(60), labels)
    assert all(np.array_equal(found[part], wanted[part]) for part in wanted)
    values = spoiled_ones.values(found, np.arange(60))
    assert np.isfinite(values[rows]).all()
    assert np.isnan(values[~rows]).all()
    nothing = spoiled_ones.fit(np.flatnonzero(~rows), labels[~rows])
    assert np.isfinite(probes(b, b).values(nothing, np.arange(60))).all()


def test_a_judge_learns_without_them_and_the_others_get_their_logits(spoiled, tmp_path, capsys):
    config = replace(load_config(str(spoiled)), dtype="float32")
    battles = planted(12)
    battles.at[3, "response_a"] = ["the Ж cat"]
    pairs = pack_pairs(battles, load_tokenizer(config), QUICK.max_tokens)
    labels = one_hot(battles["label"].to_numpy())
    learned = JudgeDataset(pairs, labels, battles["group"].tolist())
    judges = Judges(config, replace(QUICK, batch=4), tmp_path, checkpoint_steps=100)
    judges.prepare(pairs)
    _, view = crossfit(judges, learned, held_out(battles["group"], 2), pairs)
    assert np.isnan(view.values).all(axis=1).tolist() == [i == 3 for i in range(12)]
    assert "no finite loss, left out of training: id '3'" in capsys.readouterr().err
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*/training.json")]
    assert np.isfinite([record["mean_loss_of_epoch"] for record in records]).all()


def written(path, broken):
    """A file of 12 battles, some of which the model has no numbers for."""
    table = pd.read_csv(lmsys(path, 12))
    table.loc[broken, "response_b"] = json.dumps(["a Ж"])
    table.to_csv(path, index=False)
    return str(path)


def test_a_model_without_numbers_for_most_is_stopped_before_they_are_stored(
    spoiled, tmp_path, capsys
):
    argv = ["--run", str(tmp_path / "run"), "--backbone", str(spoiled)]
    train = written(tmp_path / "t.csv", list(range(12)))
    assert extract_command([*argv, "--train", train]) == 2
    assert "[TB706]" in capsys.readouterr().err
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_a_verdict_names_them_and_its_figures_are_of_the_others(spoiled, tmp_path, capsys):
    broken = [2]
    argv = ["--run", str(tmp_path / "run"), "--backbone", str(spoiled)]
    assert extract_command([*argv, "--train", written(tmp_path / "t.csv", broken)]) == 0
    capsys.readouterr()
    assert verdict.command(argv) == 0
    out, err = capsys.readouterr()
    assert f"train: the model's numbers for {len(broken)} battles are not finite" in err
    assert "nan" not in out
    assert "on 11 battles: " in out
    values = FeatureTable.read(
        tmp_path / "run" / "views" / "verdict-model" / "train.parquet"
    ).values
    assert np.isnan(values).all(axis=1).tolist() == [i in broken for i in range(12)]
    assert np.isfinite(values[[i not in broken for i in range(12)]]).all()
