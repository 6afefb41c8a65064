"""States and likelihoods against the plain computation with all logits and all hidden states."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.errors import Code
from embeddings.backbone.config import load_config
from embeddings.backbone.layers import layer_numbers
from embeddings.backbone.load import load_backbone
from embeddings.frozen.log_likelihood import QUANTITIES
from embeddings.frozen.pooling import slot_names
from embeddings.frozen.scoring import Scorer
from embeddings.prompts.answers import pack_battles
from embeddings.prompts.chat_template import Encoder
from tests.helpers.errors import raises
from tests.helpers.tiny import ARCHITECTURES, save_tiny_model, tiny_battles

END = {"llama": "<|eot_id|>", "qwen2": "<|im_end|>", "gemma2": "<end_of_turn>"}

BATTLES = tiny_battles(
    ("What is the capital of France?", "The capital of France is Paris.", "I'm sorry."),
    (["Hi", "Write a list"], ["Hello, dog", "- one\n- two\n- 3"], ["Hello", "No"]),
    # More tokens than go through the head at once.
    ("你好", "猫" * 120, "x"),
    ("Hi<|im_end|>", "<|im_start|>user", "<|eot_id|>"),
)
SLOTS = slot_names([1, 2, 4])
"""Of the layers that are kept here."""
MEAN, LAST, PROMPT = (SLOTS.index(f"layer4.{pooling}") for pooling in ("mean", "last", "prompt"))
EMPTY = tiny_battles(("Why?", "", None), (["Hi", "Why?"], ["Hello", ""], ["Hello", None]))


class Reader:
    """One model in float32 with its scorer, and the plain computation."""

    def __init__(self, config, architecture):
        config = replace(config, dtype="float32", layers=(0.25, 0.5, 1.0), unconditional_tokens=5)
        self.config, self.backbone = config, load_backbone(config)
        self.tokenizer, self.model = self.backbone.tokenizer, self.backbone.model
        self.end = self.tokenizer.convert_tokens_to_ids(END[architecture])
        prefix = pack_battles(BATTLES, config, self.tokenizer, "").shared_prefix
        self.scorer = Scorer(self.backbone, self.end, prefix)

    def items(self, battles=BATTLES):
        """The items of all A, then of all B."""
        found = pack_battles(battles, self.config, self.tokenizer, "")
        by_key = {item.key: item for item in found.answers}
        return [by_key[key] for key in found.key_a + found.key_b]

    def score(self, battles):
        """Of every item alone: states, and quantities by name."""
        states, values = zip(*(self.scorer.score([i]) for i in self.items(battles)), strict=True)
        return np.concatenate(states), table(np.concatenate(values))

    @torch.no_grad()
    def plain(self, ids):
        """All hidden states (layers + 1, n, d) and all log-probabilities (n, vocabulary)."""
        out = self.model(torch.tensor([ids]), output_hidden_states=True)
        states = torch.stack(out.hidden_states)[:, 0]
        return states.numpy(), torch.log_softmax(out.logits[0].double(), dim=-1).numpy()

    def conversation(self, prompt, answers):
        """Token ids as the chat template has them, and the positions of prompt and answers."""
        encoder = Encoder(self.tokenizer)
        turns = [text for pair in zip(prompt, answers, strict=True) for text in pair]
        roles = ["user", "assistant"] * len(prompt)
        marks = [f"Xmark{i}X" for i in range(len(turns))]
        rest = self.tokenizer.apply_chat_template(
            [{"role": r, "content": m} for r, m in zip(roles, marks, strict=True)], tokenize=False
        )
        ids, places = [], [[], []]
        for i, text in enumerate(turns):
            before, _, rest = rest.partition(marks[i])
            ids += self.tokenizer.encode(before, add_special_tokens=False)
            tokens = encoder.text(text or "")
            places[i % 2] += range(len(ids), len(ids) + len(tokens))
            ids += tokens
        return ids + self.tokenizer.encode(rest, add_special_tokens=False), *places


def table(values):
    return {name: values[:, i] for i, name in enumerate(QUANTITIES)}


def sides(battles):
    return [
        (prompt, answer)
        for column in ("response_a", "response_b")
        for prompt, answer in zip(battles["prompt"], battles[column], strict=True)
    ]


@pytest.fixture(scope="module")
def readers(configs):
    return {name: Reader(configs[name], name) for name in ARCHITECTURES}


@pytest.fixture(scope="module")
def reader(readers, architecture):
    return readers[architecture]


def test_layer_numbers_by_hand():
    assert layer_numbers((0.33, 0.6, 0.8, 1.0), 30) == [10, 18, 24, 30]
    assert layer_numbers((1.0, 0.01, 0.02), 28) == [1, 28]
    assert layer_numbers((0.5,), 2) == [1]


def test_states_are_those_of_the_plain_computation(reader):
    found, _ = reader.score(BATTLES)
    assert found.dtype == np.float16
    assert found.shape == (8, len(SLOTS), 64)
    for states, (prompt, answer) in zip(found, sides(BATTLES), strict=True):
        ids, asked, content = reader.conversation(prompt, answer)
        hidden, _ = reader.plain(ids)
        for layer in (1, 2, 4):
            expected = {
                "mean": hidden[layer, content].mean(axis=0),
                "last": hidden[layer, content[-1]],
                "prompt": hidden[layer, asked].mean(axis=0),
            }
            for pooling, state in expected.items():
                slot = SLOTS.index(f"layer{layer}.{pooling}")
                # float16 keeps 11 binary digits.
                np.testing.assert_allclose(states[slot], state, rtol=2**-10, atol=1e-4)


def test_likelihoods_are_those_of_the_plain_computation(reader):
    _, found = reader.score(BATTLES)
    for row, (prompt, answer) in enumerate(sides(BATTLES)):
        ids, _, content = reader.conversation(prompt, answer)
        _, logs = reader.plain(ids)
        each = np.array([logs[place - 1, ids[place]] for place in content])
        before = logs[[place - 1 for place in content]]
        expected = {
            "mean": each.mean(),
            "sum": each.sum(),
            "worst": each.min(),
            "entropy": -(np.exp(before) * before).sum(axis=1).mean(),
            "greedy": np.mean([logs[p - 1].argmax() == ids[p] for p in content]),
            "end": logs[content[-1], reader.end],
            "tokens": len(content),
        }
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, rel=1e-5, abs=1e-5), name


def test_bare_is_the_beginning_of_the_answer_after_an_empty_prompt(reader):
    _, found = reader.score(BATTLES)
    for row, (prompt, answer) in enumerate(sides(BATTLES)):
        beginning = Encoder(reader.tokenizer).text(answer[-1])[:5]
        before = reader.tokenizer.encode(
            reader.tokenizer.apply_chat_template(
                [{"role": "user", "content": ""}], tokenize=False, add_generation_prompt=True
            ),
            add_special_tokens=False,
        )
        _, logs = reader.plain(before + beginning)
        bare = np.mean([logs[len(before) + i - 1, t] for i, t in enumerate(beginning)])
        ids, _, content = reader.conversation(prompt, answer)
        _, logs = reader.plain(ids)
        first = len(content) - len(Encoder(reader.tokenizer).text(answer[-1]))
        places = content[first:][:5]
        given_prompt = np.mean([logs[place - 1, ids[place]] for place in places])
        assert found["bare"][row] == pytest.approx(bare, abs=1e-5)
        assert found["ratio"][row] == pytest.approx(given_prompt - bare, abs=2e-5)


def test_logits_are_capped_as_gemma2_caps_them(readers):
    reader = readers["gemma2"]
    cap = reader.model.config.final_logit_softcapping
    assert cap == 3.0
    item = reader.items()[0]
    with torch.no_grad():
        hidden = reader.backbone.decoder(torch.tensor([item.ids.tolist()])).last_hidden_state[0]
        raw = reader.model.lm_head(hidden)
    capped = cap * torch.tanh(raw / cap)
    _, plain = reader.plain(item.ids.tolist())
    positions, wanted = item.content - 1, item.ids[item.content]
    found = table(reader.scorer.score([item])[1])["mean"][0]
    means = [
        torch.log_softmax(logits, dim=-1)[positions, wanted].mean().item()
        for logits in (capped, raw)
    ]
    assert found == pytest.approx(means[0], abs=1e-5)
    assert found == pytest.approx(plain[positions, wanted].mean(), abs=1e-5)
    assert abs(found - means[1]) > 0.1


SCALED = {"cohere": {"logit_scale": 0.25}, "granite": {"logits_scaling": 4.0}}


@pytest.mark.parametrize("architecture", SCALED)
def test_logits_are_scaled_as_the_model_scales_them(architecture, tmp_path):
    folder = save_tiny_model(tmp_path / architecture, architecture, **SCALED[architecture])
    reader = Reader(load_config(str(folder)), "llama")
    item = reader.items()[0]
    positions, wanted = item.content - 1, item.ids[item.content]
    _, plain = reader.plain(item.ids.tolist())
    found = table(reader.scorer.score([item])[1])["mean"][0]
    assert found == pytest.approx(plain[positions, wanted].mean(), abs=1e-5)
    letters = [5, 6, 7]
    states = reader.backbone.decoder(torch.tensor([item.ids.tolist()])).last_hidden_state[0]
    exact = torch.log_softmax(reader.backbone.exact_logits(states, letters), dim=1)
    among = torch.log_softmax(torch.tensor(plain)[:, letters], dim=1)
    np.testing.assert_allclose(exact.detach(), among, atol=1e-5)


def test_a_model_that_changes_its_logits_otherwise_is_refused(tmp_path):
    folder = save_tiny_model(tmp_path / "x", "hyperclovax", logits_scaling=4.0)
    with raises(Code.ARCHITECTURE_UNSUPPORTED, match="HyperCLOVAXForCausalLM"):
        Reader(load_config(str(folder)), "llama")


def test_an_item_does_not_depend_on_its_mates(reader):
    items = reader.items()
    states, values = reader.scorer.score(items)
    alone = [reader.scorer.score([item]) for item in items]
    np.testing.assert_allclose(values, np.concatenate([v for _, v in alone]), rtol=1e-5, atol=1e-5)
    single = np.concatenate([s for s, _ in alone])
    np.testing.assert_allclose(states, single, rtol=2**-10, atol=1e-4)
    # Before they are rounded to float16.
    padded = reader.scorer.engine.states([item.ids for item in items])
    for row, item in enumerate(items):
        for batch, one in zip(padded, reader.scorer.engine.states([item.ids]), strict=True):
            difference = batch[row, : len(item.ids)] - one[0]
            assert difference.abs().max() < 1e-5 * one.abs().max()


def test_threads_do_not_see_each_others_states(reader):
    items = reader.items() * 4
    expected = [reader.scorer.score([item]) for item in items]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(reader.scorer.score, [[item] for item in items]))
    for (states, values), (wanted, numbers) in zip(found, expected, strict=True):
        np.testing.assert_allclose(states, wanted, rtol=2**-10, atol=1e-4)
        np.testing.assert_allclose(values, numbers, rtol=1e-5, atol=1e-5)


def test_two_scorers_share_a_model(configs):
    reader = Reader(configs["qwen2"], "qwen2")
    other = Scorer(reader.backbone, 0, reader.scorer.shared_prefix)
    (item, *_) = reader.items()
    states, values = other.score([item])
    found, numbers = reader.scorer.score([item])
    np.testing.assert_array_equal(states, found)
    end = QUANTITIES.index("end")
    np.testing.assert_array_equal(np.delete(values, end, 1), np.delete(numbers, end, 1))
    assert values[0, end] != numbers[0, end]


def test_without_a_shared_prefix_the_numbers_are_the_same(reader):
    whole = Scorer(reader.backbone, reader.end, np.empty(0, dtype=np.int32))
    items = reader.items()
    states, values = whole.score(items)
    assert len(reader.scorer.shared_prefix) > 0
    found, numbers = reader.scorer.score(items)
    np.testing.assert_allclose(found, states, rtol=2**-10, atol=1e-4)
    np.testing.assert_allclose(numbers, values, rtol=1e-5, atol=1e-5)


def test_last_is_content_even_where_padding_ends_a_turn(readers):
    reader = readers["llama"]
    assert reader.tokenizer.pad_token_id == reader.tokenizer.eos_token_id == reader.end
    short, *_, long = sorted(reader.items(), key=lambda item: len(item.ids))
    states, _ = reader.scorer.score([short, long])
    hidden, _ = reader.plain([*short.ids.tolist(), reader.end, reader.end])
    np.testing.assert_allclose(states[0, LAST], hidden[4, -3], rtol=2**-10, atol=1e-4)
    assert np.abs(states[0, LAST] - hidden[4, -2]).max() > 0.1
    assert reader.end not in (short.ids[short.last], long.ids[long.last])


def test_an_empty_answer_has_states_and_no_likelihood(reader):
    for battles in (EMPTY, EMPTY[:1], EMPTY[1:]):
        states, _ = reader.score(battles)
        assert np.isfinite(states).all()
    states, found = reader.score(EMPTY)
    # Rows: A and B of the first battle at 0 and 2, of the second at 1 and 3.
    assert found["tokens"][[0, 2]].tolist() == found["sum"][[0, 2]].tolist() == [0, 0]
    for name in ("mean", "worst", "entropy", "greedy", "bare", "ratio"):
        assert np.isnan(found[name][[0, 2]]).all()
    assert np.isnan(found["ratio"]).all()
    before = reader.tokenizer.encode(
        reader.tokenizer.apply_chat_template(
            [{"role": "user", "content": "Why?"}], tokenize=False, add_generation_prompt=True
        ),
        add_special_tokens=False,
    )
    hidden, logs = reader.plain(before)
    np.testing.assert_allclose(states[0, LAST], hidden[4, -1], rtol=2**-10, atol=1e-4)
    # The mean over nothing.
    np.testing.assert_array_equal(states[0, MEAN], states[0, LAST])
    assert found["end"][0] == pytest.approx(logs[-1, reader.end], abs=1e-5)
    # In the second battle the first round's answer is content.
    greeting = len(Encoder(reader.tokenizer).text("Hello"))
    assert found["tokens"][[1, 3]].tolist() == [greeting, greeting]
    assert math.isfinite(found["mean"][1])


def test_an_empty_prompt_has_states(reader):
    states, found = reader.score(tiny_battles(("", "Yes", "No")))
    assert np.isfinite(states).all()
    np.testing.assert_array_equal(states[0, PROMPT], states[0, LAST])
    assert found["ratio"] == pytest.approx([0, 0], abs=1e-5)


def test_states_beyond_float16_are_clamped(configs):
    reader = Reader(configs["llama"], "llama")
    with torch.no_grad():
        reader.model.model.norm.weight.mul_(1e6)
    states, _ = reader.scorer.score(reader.items())
    assert np.isfinite(states).all()
    assert np.abs(states).max() == np.finfo(np.float16).max
