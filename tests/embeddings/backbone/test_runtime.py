"""OpenVINO against PyTorch: the same numbers, by the same address only where they are the same."""

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.errors import Code
from embeddings.backbone.config import load_config
from embeddings.backbone.load import load_backbone
from embeddings.backbone.runtime import OPENVINO, TORCH, make_engine, select_engine
from embeddings.frozen.extract import extract
from embeddings.frozen.language_model import LanguageModel
from embeddings.frozen.scoring import Scorer
from embeddings.prompts.answers import pack_battles
from tests.helpers.errors import raises
from tests.helpers.tiny import ARCHITECTURES, save_tiny_model, tiny_battles

LONG = " ".join(["the cat runs because 12 dogs are green, however"] * 40)
BATTLES = tiny_battles(
    # Positions beyond 256, which bfloat16 does not hold.
    ("Write a list", LONG, "- one\n- two\n- 3"),
    (["Hi", "What is the capital?"], ["Hello, dog", "Paris."], ["Hello", "I'm sorry."]),
    ("Why?", "", "Because."),
)


def installed():
    return importlib.util.find_spec("openvino") is not None


needs_openvino = pytest.mark.skipif(not installed(), reason="openvino is optional")


def scored(config, name, battles=BATTLES):
    """States and quantities of all answers, float64, longest first."""
    backbone = load_backbone(config)
    packed = pack_battles(battles, config, backbone.tokenizer, "")
    scorer = Scorer(backbone, packed.end_token, packed.shared_prefix, name)
    found = [scorer.score([item]) for item in packed.answers]
    states, values = (np.concatenate(x).astype(np.float64) for x in zip(*found, strict=True))
    return states, values


def error(found, truth):
    """Relative error of every pooled state, (n, slots)."""
    return np.linalg.norm(found - truth, axis=-1) / np.linalg.norm(truth, axis=-1)


@needs_openvino
@pytest.mark.parametrize("name", ["llama", "qwen2", pytest.param("gemma2", marks=pytest.mark.slow)])
def test_openvino_is_torch_in_float32(configs, name):
    config = replace(configs[name], dtype="float32", layers=(0.5, 1.0))
    expected, found = scored(config, TORCH), scored(config, OPENVINO)
    assert expected[0].shape == (6, 6, 64)
    # The longest has tokens beyond position 256.
    assert expected[1][0, -1] > 300
    np.testing.assert_allclose(found[0], expected[0], rtol=2**-9, atol=1e-3)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-4)


@needs_openvino
@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_openvino_in_bfloat16_errs_no_more_than_torch_does(tmp_path, name):
    # Wide matrices of the usual scale: at .2 a rounding grows from layer to layer.
    folder = save_tiny_model(tmp_path / name, name, hidden_size=128, initializer_range=0.06)
    config = replace(load_config(str(folder)), dtype="bfloat16")
    truth = scored(replace(config, dtype="float32"), TORCH)
    theirs, ours = scored(config, TORCH), scored(config, OPENVINO)
    assert error(theirs[0], truth[0]).max() < 0.1
    assert np.median(error(ours[0], truth[0])) < 1.2 * np.median(error(theirs[0], truth[0]))
    assert error(ours[0], truth[0]).max() < 1.5 * error(theirs[0], truth[0]).max()
    mean_of = slice(0, 1)
    off = [np.nanmax(np.abs(x[1] - truth[1])[:, mean_of]) for x in (theirs, ours)]
    assert off[1] < max(2 * off[0], 0.02)


@needs_openvino
def test_a_sequence_has_one_answer_whatever_is_read_beside_it(configs):
    config = replace(configs["llama"], dtype="bfloat16")
    backbone = load_backbone(config)
    opening = np.arange(5, dtype=np.int32)
    rng = np.random.default_rng(0)
    sequences = [
        np.concatenate([opening, rng.integers(5, 400, n).astype(np.int32)])
        for n in (90, 17, 90, 300, 33)
    ]
    torch.set_num_threads(2)
    try:
        runner = make_engine(OPENVINO, backbone, [2, 4], opening)
    finally:
        torch.set_num_threads(1)
    alone = [runner.states([s]) for s in sequences]
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(lambda s: runner.states([s]), sequences[::-1] * 3))
    for k, found in enumerate(beside):
        for one, other in zip(alone[::-1][k % 5], found, strict=True):
            assert torch.equal(one, other)
    together = runner.states(sequences[:2])
    assert torch.equal(together[0][1, :22], alone[1][0][0])


def test_the_engine_is_chosen(configs, monkeypatch):
    config = configs["llama"]
    assert select_engine(TORCH, replace(config, quantization="nf4")) == (TORCH, "")
    if installed():
        assert select_engine("auto", config) == select_engine(OPENVINO, config) == (OPENVINO, "")
    for changes, reason in [({"quantization": "int8"}, "int8"), ({"dtype": "float16"}, "float16")]:
        found, note = select_engine("auto", replace(config, **changes))
        assert found == TORCH
        assert reason in note
        assert "\n" not in note
        with raises(Code.OPENVINO_UNAVAILABLE, match=reason):
            select_engine(OPENVINO, replace(config, **changes))
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        assert "GPU" in select_engine("auto", config)[1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install openvino" in select_engine("auto", config)[1]


@needs_openvino
def test_what_openvino_is_not_tested_with_is_left_to_torch(tmp_path):
    folder = save_tiny_model(tmp_path / "m", "llama", rope_parameters=DYNAMIC)
    assert select_engine("auto", load_config(str(folder)))[0] == TORCH


DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}


@needs_openvino
def test_engines_have_stores_of_their_own(configs, tmp_path):
    config, views = configs["llama"], []
    for name in (TORCH, OPENVINO):
        extract([BATTLES], len(BATTLES), LanguageModel(config, name), tmp_path, "train")
        views.append((tmp_path / "likelihood" / "train.parquet").read_bytes())
    stores = [p.parent for p in (tmp_path / "hidden").glob("*/settings.json")]
    engines = [json.loads((p / "settings.json").read_text()).get("engine") for p in stores]
    assert len(stores) == 2
    # What was made before there was a choice is found again.
    assert sorted(map(str, engines)) == ["None", OPENVINO]
    assert views[0] != views[1]


@pytest.mark.exhaustive
@needs_openvino
def test_openvino_reads_the_embedded_model_as_well_as_torch():
    config = replace(load_config("smollm2-135m"), layers=(0.33, 1.0))
    text = "The harbour was quiet, and the lamps along the quay went out one by one. " * 25
    battles = tiny_battles(("Write a story about a harbour.", text, "I can't do that, sorry."))
    truth = scored(replace(config, dtype="float32"), TORCH, battles)
    theirs, ours = scored(config, TORCH, battles), scored(config, OPENVINO, battles)
    assert np.median(error(ours[0], truth[0])) < 1.3 * np.median(error(theirs[0], truth[0]))
    assert error(ours[0], truth[0]).max() < 0.1
    off, peer = (np.abs(x[1][:, 0] - truth[1][:, 0]).max() for x in (ours, theirs))
    assert off < max(0.06, 2 * peer)


def test_every_architecture_that_is_tested_may_be_chosen(configs):
    if not installed():
        pytest.skip("openvino is optional")
    assert {select_engine("auto", configs[name])[0] for name in ARCHITECTURES} == {OPENVINO}
