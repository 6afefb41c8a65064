"""The lower layers' output from disk gives what the whole model gives."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from planted import QUICK, examples, planted

from arena.errors import UserError
from embeddings import lower
from embeddings.backbone import load_backbone
from embeddings.judge import Judge, token_ids
from embeddings.lower import fill_lower
from embeddings.pairs import distinct
from embeddings.store import Writer


def read_with(config, top, inputs, sequences):
    judge = Judge(load_backbone(config), replace(QUICK, top_layers=top)).eval()
    return torch.cat([judge.read([s], inputs)[0] for s in sequences]), judge


@pytest.mark.parametrize("top", [1, 2, 3])
def test_the_top_layers_say_what_the_whole_model_says(configs, architecture, tmp_path, top):
    config = replace(configs[architecture], dtype="float32")
    sequences = distinct(examples(planted(4), config).pairs)
    store = Writer(tmp_path)
    fill_lower(store, sequences, config, top)
    whole, _ = read_with(config, 0, token_ids, sequences)
    cached, judge = read_with(config, top, lambda s: store.get(s.key), sequences)
    assert torch.allclose(whole, cached, atol=1e-5)
    assert len(judge.trained) == 2 * 7 * top + 2
    # In one batch with padding too.
    batch = torch.cat(judge.read(sequences, lambda s: store.get(s.key)))
    assert torch.allclose(whole, batch, atol=1e-5)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_bfloat16_is_stored_as_it_was_computed(configs, architecture, tmp_path, quantization):
    config = replace(configs[architecture], quantization=quantization)
    sequences = distinct(examples(planted(3), config).pairs)
    store = Writer(tmp_path)
    fill_lower(store, sequences, config, 2)
    assert store.get(sequences[0].key).dtype == torch.bfloat16
    whole, _ = read_with(config, 0, token_ids, sequences)
    cached, _ = read_with(config, 2, lambda s: store.get(s.key), sequences)
    assert torch.allclose(whole, cached, atol=1e-3)


def test_what_is_stored_is_not_read_again(configs, tmp_path, monkeypatch):
    config = configs["llama"]
    sequences = distinct(examples(planted(3), config).pairs)
    fill_lower(Writer(tmp_path), sequences[1:], config, 2)
    read = []
    monkeypatch.setattr(lower, "fill", lambda store, todo, *_: read.extend(todo))
    fill_lower(Writer(tmp_path), sequences, config, 2)
    assert read == sequences[:1]
    monkeypatch.setattr(lower, "load_backbone", None)
    fill_lower(Writer(tmp_path), sequences[1:], config, 2)


def test_a_disk_without_room_is_one_line(configs, tmp_path, monkeypatch):
    config = configs["llama"]
    sequences = distinct(examples(planted(3), config).pairs)
    monkeypatch.setattr(lower.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="make room"):
        fill_lower(Writer(tmp_path), sequences, config, 2)


def test_more_top_layers_than_the_model_has_are_refused(configs, tmp_path):
    config = configs["llama"]
    sequences = distinct(examples(planted(3), config).pairs)
    with pytest.raises(UserError, match="has 4 layers"):
        fill_lower(Writer(tmp_path), sequences, config, 4)
    with pytest.raises(UserError, match="has 4 layers"):
        Judge(load_backbone(config), replace(QUICK, top_layers=5))
