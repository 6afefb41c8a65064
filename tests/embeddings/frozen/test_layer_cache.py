"""The lower layers' output from disk gives what the whole model gives."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from common import files
from common.errors import Code
from embeddings import replicas
from embeddings.backbone.layers import LayerRange
from embeddings.backbone.load import load_backbone
from embeddings.frozen import pair_replicas
from embeddings.frozen.pair_reader import token_ids
from embeddings.frozen.pair_states import PairStates
from embeddings.judge.model import Judge
from embeddings.prompts.pairs import distinct
from tests.helpers.errors import raises
from tests.helpers.planted import QUICK, examples, planted


def top_of(top, read_layers="1"):
    return replace(QUICK, top_layers=top, read_layers=read_layers)


def look_with(config, recipe, inputs, sequences):
    judge = Judge(load_backbone(config), recipe).eval()
    with torch.inference_mode():
        return torch.stack(
            [judge.reader.states([s], inputs)[0].flatten() for s in sequences]
        ), judge


def lower_layers(config, recipe, folder, sequences):
    """The states of a backbone whose lower layers have read these sequences."""
    states = PairStates(config, recipe.read_layers, top_layers=recipe.top_layers, folder=folder)
    states.fill_lower(sequences)
    return states


@pytest.mark.parametrize(
    ("top", "read_layers"), [(1, "1"), (2, "0.75"), (2, "0.5,1"), (2, "0.25,0.5,0.75")]
)
def test_the_top_layers_see_what_the_whole_model_sees(
    configs, architecture, tmp_path, top, read_layers
):
    config = replace(configs[architecture], dtype="float32")
    sequences = distinct(examples(planted(4), config).pairs)
    recipe = top_of(top, read_layers)
    states = lower_layers(config, recipe, tmp_path, sequences)
    whole, _ = look_with(config, top_of(0, read_layers), token_ids, sequences)
    cached, judge = look_with(config, recipe, states.inputs, sequences)
    assert torch.allclose(whole, cached, atol=1e-5)
    assert not torch.allclose(whole[0], whole[1], atol=1e-2)
    assert len(judge.trained) == 2 * 7 * top + 2
    # In one batch with padding too.
    with torch.inference_mode():
        batch = judge.reader.states(sequences, states.inputs).flatten(1)
    assert torch.allclose(whole, batch, atol=1e-5)


def test_states_between_the_layers_are_those_of_transformers(configs, architecture):
    config = replace(configs[architecture], dtype="float32")
    sequence = distinct(examples(planted(4), config).pairs)[0]
    seen, _ = look_with(config, top_of(0, "0.25,0.75,1"), token_ids, [sequence])
    decoder = load_backbone(config).decoder
    with torch.inference_mode():
        states = decoder(input_ids=token_ids(sequence)[None], output_hidden_states=True)
    last = torch.stack([states.hidden_states[depth][0, -1] for depth in (1, 3, 4)])
    assert torch.allclose(seen.reshape(3, 4, -1)[:, 0], last, atol=1e-5)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_bfloat16_is_stored_as_it_was_computed(configs, architecture, tmp_path, quantization):
    config = replace(configs[architecture], quantization=quantization)
    sequences = distinct(examples(planted(3), config).pairs)
    states = lower_layers(config, top_of(2), tmp_path, sequences)
    assert states.inputs(sequences[0]).dtype == torch.bfloat16
    whole, _ = look_with(config, QUICK, token_ids, sequences)
    cached, _ = look_with(config, top_of(2), states.inputs, sequences)
    assert torch.allclose(whole, cached, atol=1e-3)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_layers_above_those_that_are_read_are_not_loaded(
    configs, architecture, monkeypatch, quantization
):
    config = replace(configs[architecture], dtype="float32", quantization=quantization)
    sequences = distinct(examples(planted(3), config).pairs)
    loaded = []

    def load(config, **how):
        backbone = load_backbone(config, **how)
        loaded.append(len(backbone.decoder.layers))
        return backbone

    monkeypatch.setattr(pair_replicas, "load_backbone", load)
    states = PairStates(config, "0.5", top_layers=1, shared={})
    states.fill(sequences)
    assert loaded == [1, 2]
    # No last norm, which the whole model's states at that depth have not seen.
    whole, _ = look_with(config, top_of(0, "0.5"), token_ids, sequences)
    found = torch.from_numpy(states.states(sequences)).float().flatten(1)
    assert torch.allclose(found, whole, rtol=1e-2, atol=1e-2)


def test_what_is_stored_is_not_read_again(configs, tmp_path, monkeypatch):
    config = configs["llama"]
    sequences = distinct(examples(planted(3), config).pairs)
    lower_layers(config, top_of(2), tmp_path, sequences[1:])
    read = []
    monkeypatch.setattr(replicas, "read_into_store", lambda store, todo, *_: read.extend(todo))
    lower_layers(config, top_of(2), tmp_path, sequences)
    assert read == sequences[:1]
    monkeypatch.setattr(pair_replicas, "load_backbone", None)
    lower_layers(config, top_of(2), tmp_path, sequences[1:])


def test_a_disk_without_room_is_one_line(configs, tmp_path, monkeypatch):
    config = configs["llama"]
    sequences = distinct(examples(planted(3), config).pairs)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with raises(Code.DISK_TOO_SMALL):
        lower_layers(config, top_of(2), tmp_path, sequences)


@pytest.mark.parametrize(("top", "read_layers"), [(3, "0.75"), (1, "0.5,1"), (1, "0.25,0.75")])
def test_layers_that_are_read_must_be_trained_and_others_stay_below(top, read_layers):
    with raises(Code.LAYERS_INVALID, match="top_layers"):
        LayerRange.of(top_of(top, read_layers).depths, top, 4)


def test_more_top_layers_than_the_model_has_are_refused(configs, tmp_path):
    config = configs["llama"]
    sequences = distinct(examples(planted(3), config).pairs)
    with raises(Code.LAYERS_INVALID, match="4 layers"):
        lower_layers(config, top_of(4), tmp_path, sequences)
    with raises(Code.LAYERS_INVALID, match="4 layers"):
        Judge(load_backbone(config), replace(QUICK, top_layers=5))
