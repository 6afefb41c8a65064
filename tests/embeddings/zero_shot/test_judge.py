"""The verdict of tiny random models: what is read, what is kept, what a swap does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from arena.predictions_file import read_probabilities
from arena.swap import swap_battles
from common.errors import Code
from embeddings import replicas
from embeddings.backbone.load import load_backbone, load_tokenizer
from embeddings.prompts.pairs import distinct, pack_with
from embeddings.zero_shot import judge as verdict
from embeddings.zero_shot.endpoint import Endpoint
from embeddings.zero_shot.judge import (
    packing,
    query_backbone,
    query_endpoint,
    read_letters,
    verdict_view,
)
from embeddings.zero_shot.prompt import letter_tokens
from tests.helpers.errors import raises
from tests.helpers.fake_server import openai, serve
from tests.helpers.tiny import tiny_battles

BATTLES = tiny_battles(
    ("What is the capital of France?", "Paris.", "I'm sorry, I can't."),
    (["Write a list", "Shorter"], ["- one\n- two", "- one"], [None, "12 things " * 60]),
    ("Hi", "the same", "the same"),
)


def asked(config, battles=BATTLES):
    packer, budget = packing(load_tokenizer(config), config.max_tokens)
    return pack_with(packer, battles, budget)


def config_of(configs, architecture, **changes):
    return replace(configs[architecture], **{"dtype": "float32", "max_tokens": 600, **changes})


def test_the_letters_are_read_where_the_model_would_speak(configs, architecture, tmp_path):
    config = config_of(configs, architecture)
    table = asked(config)
    (said,) = query_backbone([table], config, tmp_path)
    assert said.shape == (6, 3)
    # The plain way: the whole model on one sequence, its own head and capping.
    backbone = load_backbone(config)
    for sequence, found in zip([*table.forward, *table.swapped], said, strict=True):
        with torch.inference_mode():
            logits = backbone.model(torch.from_numpy(sequence.ids).long()[None]).logits[0, -1]
        logs = torch.log_softmax(logits.float(), dim=0).numpy()
        letters = [np.logaddexp.reduce(logs[list(i)]) for i in letter_tokens(backbone.tokenizer)]
        assert found == pytest.approx(np.array(letters), abs=1e-4)


def test_a_batch_with_padding_says_the_same(configs, architecture):
    config = config_of(configs, architecture)
    backbone, questions = load_backbone(config), distinct(asked(config))
    letters = letter_tokens(backbone.tokenizer)
    alone = torch.cat([read_letters(backbone, letters, [q])[0] for q in questions])
    together = torch.cat(read_letters(backbone, letters, questions))
    assert torch.allclose(alone, together, atol=1e-4)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantized_backbones_say_something(configs, architecture, tmp_path, quantization):
    config = config_of(configs, architecture, dtype="bfloat16", quantization=quantization)
    (said,) = query_backbone([asked(config)], config, tmp_path)
    assert (said < 0).all()
    assert np.isfinite(said).all()


def test_swapped_battles_give_the_swapped_view_to_the_bit(configs, tmp_path):
    config = config_of(configs, "llama")
    there, back = asked(config), asked(config, swap_battles(BATTLES))
    views = map(verdict_view, (there, back), query_backbone([there, back], config, tmp_path))
    there_view, back_view = views
    assert np.array_equal(there_view.swap().values, back_view.values)
    assert np.abs(there_view.values).max() > 0.01
    # Equal answers: no side, whatever the model thinks of first places.
    assert there_view.values[2, 0] == 0


def test_what_was_said_is_not_read_again(configs, tmp_path, monkeypatch):
    config = config_of(configs, "llama")
    first, all_of_them = asked(config, BATTLES[:1]), asked(config)
    (before,) = query_backbone([first], config, tmp_path)
    read = []
    plain = replicas.read_into_store
    monkeypatch.setattr(
        replicas,
        "read_into_store",
        lambda said, todo, *how: (read.extend(todo), plain(said, todo, *how)),
    )
    (after,) = query_backbone([all_of_them], config, tmp_path)
    assert {q.key for q in read} == {q.key for q in distinct(all_of_them)} - {
        q.key for q in distinct(first)
    }
    assert np.array_equal(after[[0, 3]], before)
    monkeypatch.setattr(verdict, "load_backbone", None)
    query_backbone([all_of_them], config, tmp_path)


def test_a_question_longer_than_the_context_is_refused(configs, tmp_path):
    config = config_of(configs, "llama", max_tokens=4096)
    with raises(Code.CONTEXT_EXCEEDED, match="4096"):
        query_backbone([asked(config)], config, tmp_path)


def endpoint(server):
    how = {"top_logprobs": 5, "concurrency": 2, "timeout": 10, "attempts": 2}
    return Endpoint.of(server.url, "toy", **how)


def test_an_endpoint_gets_the_very_tokens_and_is_asked_once(configs, tmp_path, capsys):
    config = config_of(configs, "qwen2")
    table, tokenizer = asked(config), load_tokenizer(config)
    top = {"A": np.log(0.5), "B": np.log(0.25), "x": np.log(0.125)}
    with serve(answer=lambda _: openai(top)) as server:
        (said,) = query_endpoint([table], endpoint(server), tokenizer, tmp_path)
        assert sorted(server.prompts) == sorted(q.ids.tolist() for q in distinct(table))
        (again,) = query_endpoint([table], endpoint(server), tokenizer, tmp_path)
        assert len(server.prompts) == 5
    assert said == pytest.approx(np.log([[0.5, 0.25, 0.125]] * 6))
    assert np.array_equal(said, again)
    assert "100.0% of the answers lack a letter among the 5 likeliest" in capsys.readouterr().out
    # Whoever stands first gets ln 2 more, and no answer gains from it.
    view = verdict_view(table, said)
    columns = dict(zip(view.names, view.values[0], strict=True))
    assert columns == pytest.approx(
        {
            "side": 0,
            "tie": np.log(0.125) - np.log(0.125) / 2,
            "absside": 0,
            "position": np.log(2),
            "absposition": np.log(2),
            "tieshift": 0,
        },
        abs=1e-6,
    )


def test_answers_without_logprobs_are_counted_and_named(tmp_path, capsys):
    packer, budget = packing(None, 600)
    table = pack_with(packer, BATTLES, budget)

    def answer(body):
        return {"choices": [{"logprobs": None}]} if "France" in body["prompt"] else openai()

    with serve(answer=answer) as server:
        (said,) = query_endpoint([table], endpoint(server), None, tmp_path)
    assert "2 of the answers came without logprobs and say nothing: id '0'\n" in (
        capsys.readouterr().out
    )
    assert (np.exp(said[[0, 3]]) < 1e-20).all()
    view = verdict_view(table, said)
    assert (view.values[0] == 0).all()
    assert (view.values[1:, 1] != 0).all()


def test_another_model_of_the_same_name_is_asked_anew(configs, tmp_path, monkeypatch):
    packer, budget = packing(None, 600)
    table = pack_with(packer, BATTLES, budget)
    with serve() as server:
        query_endpoint([table], endpoint(server), None, tmp_path)
        monkeypatch.setattr(Endpoint, "identify", lambda *_: {"size": 7})
        query_endpoint([table], endpoint(server), None, tmp_path)
        assert len(server.prompts) == 10
    assert all(isinstance(prompt, str) for prompt in server.prompts)


def test_a_verdict_view_is_a_teacher(tmp_path):
    packer, budget = packing(None, 600)
    table = pack_with(packer, BATTLES, budget)
    forward, swapped = np.log([0.5, 0.25, 0.25]), np.log([0.25, 0.5, 0.25])
    said = np.stack([forward] * 3 + [swapped] * 3)
    verdict_view(table, said).write(tmp_path / "train.parquet")
    found = read_probabilities(str(tmp_path / "train.parquet"), ["2", "0"], logits=True)
    assert found == pytest.approx(np.array([[0.5, 0.25, 0.25]] * 2), abs=1e-6)
