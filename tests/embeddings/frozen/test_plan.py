"""What an extraction will read: each distinct answer once, the longest first."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena.swap import swap_battles
from common.errors import Code, UserError
from embeddings.backbone.config import BackboneConfig
from embeddings.frozen import chunks
from embeddings.frozen import plan as planning
from embeddings.frozen.plan import ExtractionPlan, plan
from embeddings.prompts.answers import pack_battles
from tests.helpers.errors import raises
from tests.helpers.tiny import tiny_battles, tiny_tokenizer

CONFIG = BackboneConfig(name="toy", source="no/where", max_tokens=200)
TOKENIZER = tiny_tokenizer()
BATTLES = tiny_battles(
    ("Why?", "Because the cat runs.", "No."),
    (["Hi", "And you?"], ["Hello", "I am a dog."], ["Hello", "Because the list is long."]),
    ("Write a list", "one " * 300, "one"),
)


def packed(battles, config=CONFIG, settings=""):
    return pack_battles(battles, config, TOKENIZER, settings)


def counted(*plans):
    counts = ExtractionPlan()
    for found in plans:
        counts.add(found)
    return counts


def key(prompt, answer, config=CONFIG, settings=""):
    return packed(tiny_battles((prompt, answer, "")), config, settings).key_a[0]


def test_an_answer_is_read_once_however_often_it_is_there():
    found = packed(tiny_battles(("Why?", "Yes", "Yes"), ("Why?", "No", "Yes"), ("Who?", "Yes", "")))
    assert len(found.answers) == 4
    assert found.key_a[0] == found.key_b[0] == found.key_b[1]
    assert len({found.key_a[0], found.key_a[1], found.key_a[2], found.key_b[2]}) == 4
    assert {item.key for item in found.answers} == {*found.key_a, *found.key_b}
    assert found.cut.shape == (6, 2)


def test_a_swap_exchanges_the_keys_and_nothing_else():
    found, swapped = packed(BATTLES), packed(swap_battles(BATTLES))
    assert (swapped.key_a, swapped.key_b) == (found.key_b, found.key_a)
    assert [item.key for item in swapped.answers] == [item.key for item in found.answers]
    assert swapped.ids == found.ids == ["0", "1", "2"]


def test_the_same_text_has_the_same_key():
    assert key("Why?", "Yes") == key(" Why?\n", "Yes ")
    assert key(["Why?"], [None]) == key("Why?", "")
    renamed = replace(CONFIG, name="other", batch_tokens=1 << 20, parameters=7)
    assert key("Why?", "Yes") == key("Why?", "Yes", renamed)
    assert len(key("Why?", "Yes")) == 32


@pytest.mark.parametrize(
    "other",
    [
        ("Why?", "yes"),
        ("Why", "Yes"),
        (["Why?", ""], ["Yes", ""]),
        (["", "Why?"], ["", "Yes"]),
        ("Why?", "Yes", CONFIG, "other settings"),
        ("Why?", "Yes", replace(CONFIG, unconditional_tokens=0)),
    ],
)
def test_another_text_or_setting_has_another_key(other):
    assert key(*other) != key("Why?", "Yes")


SHORT = st.text(st.sampled_from("ab \n"), max_size=4)


@settings(max_examples=60, deadline=None)
@given(*[st.lists(SHORT, min_size=1, max_size=2)] * 2, *[st.lists(SHORT, max_size=2)] * 2)
def test_keys_are_the_same_where_the_texts_are(prompt, other_prompt, answer, other_answer):
    def texts(prompt, answer):
        turns = max(len(prompt), len(answer))
        return [[t.strip() for t in side] + [""] * (turns - len(side)) for side in (prompt, answer)]

    same = texts(prompt, answer) == texts(other_prompt, other_answer)
    assert (key(prompt, answer) == key(other_prompt, other_answer)) == same


def test_the_longest_comes_first():
    found = packed(BATTLES)
    lengths = [len(item.ids) for item in found.answers]
    assert lengths == sorted(lengths, reverse=True)
    assert len(found.answers[0].ids) == 200
    ties = packed(tiny_battles(*[(f"{i}", "a", "b") for i in range(9)]))
    assert len({len(item.ids) for item in ties.answers}) == 1
    assert [i.key for i in ties.answers] == sorted(i.key for i in ties.answers)


@pytest.mark.parametrize(
    ("architecture", "end"),
    [("llama", "<|eot_id|>"), ("qwen2", "<|im_end|>"), ("gemma2", "<end_of_turn>")],
)
def test_the_end_token_is_what_the_template_ends_a_turn_with(architecture, end):
    tokenizer = tiny_tokenizer(architecture)
    found = pack_battles(BATTLES, CONFIG, tokenizer, "")
    assert tokenizer.convert_ids_to_tokens(found.end_token) == end


def test_an_item_ends_with_its_answer():
    found = packed(tiny_battles((["Hi", "Why?"], ["Hello", "Because."], ["Hello", "No"])))
    (item,) = (item for item in found.answers if item.key == found.key_a[0])
    assert TOKENIZER.decode(item.ids[item.content]) == "HelloBecause."
    assert TOKENIZER.decode(item.ids[item.prompt]) == "HiWhy?"
    assert item.last == item.content[-1] == len(item.ids) - 1
    assert TOKENIZER.decode(item.ids[item.unconditional_start :]) == "Because."
    user = "<|start_header_id|>user<|end_header_id|>\n\n"
    model = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    assert TOKENIZER.decode(item.unconditional) == (
        f"<|begin_of_text|>{user}<|eot_id|>{model}Because."
    )
    assert item.unconditional_length == len(TOKENIZER.encode("Because."))
    opening = f"<|begin_of_text|>{user[:-2]}"
    assert TOKENIZER.decode(found.shared_prefix).startswith(opening)
    read = len(item.ids) + len(item.unconditional) - 2 * len(found.shared_prefix)
    assert item.tokens == read


def test_the_unconditional_pass_is_the_beginning_of_the_last_turn():
    battles = tiny_battles(("Why?", "The cat runs because the dog is green.", ""))
    few = packed(battles, replace(CONFIG, unconditional_tokens=3))
    (item,) = (item for item in few.answers if item.key == few.key_a[0])
    assert item.unconditional_length == 3
    assert item.unconditional[-3:].tolist() == item.ids[item.unconditional_start :][:3].tolist()
    (empty,) = (item for item in few.answers if item.key == few.key_b[0])
    assert (empty.unconditional_length, len(empty.unconditional)) == (0, 0)
    none = packed(battles, replace(CONFIG, unconditional_tokens=0))
    assert [len(item.unconditional) for item in none.answers] == [0, 0]
    assert counted(none).tokens[1] == 0


def test_the_unconditional_pass_stops_at_an_ellipsis():
    config = replace(CONFIG, unconditional_tokens=190)
    found = packed(tiny_battles(("Why?", "one two three " * 200, "")), config)
    item = found.answers[0]
    head = item.content[: item.unconditional_length]
    assert 0 < item.unconditional_length < len(item.content)
    assert np.array_equal(head, np.arange(head[0], head[0] + item.unconditional_length))
    assert item.content[item.unconditional_length] > head[-1] + 1


def test_lines_say_what_will_be_read():
    found = packed(BATTLES)
    lines = "\n".join(counted(found).lines())
    assert "battles 3, answers 6, distinct in their conversation 6" in lines
    assert "turns: 1: 2, 2: 1" in lines
    assert "truncated 1 of 6 (16.7%), tokens cut: prompts 0, answers" in lines
    lengths = [len(item.ids) for item in found.answers]
    histogram = re.search(r"template included\): (.*)", lines).group(1)
    for low, high in ((0, 63), (64, 127), (128, 255)):
        n = sum(low <= length <= high for length in lengths)
        assert (f"{low}-{high}: {n}" in histogram) == (n > 0)
    opening = len(found.shared_prefix)
    bare = sum(
        len(item.unconditional) - opening for item in found.answers if len(item.unconditional)
    )
    total = sum(lengths) - opening * len(lengths)
    assert f"tokens to read {total + bare:,}: {total:,} with the prompt, {bare:,} without" in lines


def test_a_very_long_sequence_is_counted():
    found = packed(tiny_battles(("a", "猫" * 20_000, "b")), replace(CONFIG, max_tokens=9000))
    assert "0-63: 1, 8192 and more: 1" in "\n".join(counted(found).lines())


def test_a_table_without_battles_has_a_plan():
    found = packed(BATTLES[:0])
    assert (found.ids, found.answers) == ([], [])
    counts = counted(found)
    assert counts.tokens.tolist() == [0, 0]
    assert "battles 0, answers 0" in "\n".join(counts.lines())


def no_hub(config):
    if config.source == CONFIG.source:
        raise UserError(Code.HUB_GATED, "toy is gated: accept its licence")
    return TOKENIZER


def test_a_gated_backbone_is_counted_with_the_embedded_tokenizer(monkeypatch):
    monkeypatch.setattr(planning, "load_tokenizer", no_hub)
    found = plan([BATTLES], replace(CONFIG, parameters=10**9))
    assert found.lines()[0] == (
        "  counted with the tokenizer of smollm2-135m: toy is gated: accept its licence"
    )
    assert found.lines()[1:] == counted(packed(BATTLES)).lines()
    with raises(Code.HUB_GATED):
        plan([BATTLES], CONFIG)


def test_plan_uses_the_backbones_own_tokenizer(configs):
    found = plan([BATTLES], configs["gemma2"])
    assert found.note == ""
    wanted = pack_battles(BATTLES, configs["gemma2"], tiny_tokenizer("gemma2"), "")
    assert found.seen == {key[:16] for key in (*wanted.key_a, *wanted.key_b)}


def test_a_plan_of_parts_is_the_plan_of_the_whole(configs, monkeypatch):
    battles = tiny_battles(
        ("Why?", "Because the cat runs.", "No."),
        (["Hi", "And you?"], ["Hello", "I am a dog."], ["Hello", "Because the list is long."]),
        ("Write a list", "one " * 600, "one"),
        ("Why?", "No.", "Because the cat runs."),
        ("What?", "No.", "A cat."),
    )
    config = replace(configs["llama"], max_tokens=300)
    whole = plan([battles], config)
    assert (whole.battles, len(whole.seen), whole.truncated, whole.longest) == (5, 8, 1, 300)
    monkeypatch.setattr(chunks, "CHUNK", 2)
    found = plan([battles[:1], battles[1:4], battles[4:4], battles[4:]], config)
    assert found.lines() == whole.lines()
    keys = [{x: [i.key for i in items] for x, items in p.samples.items()} for p in (found, whole)]
    assert keys[0] == keys[1]
    for name, value in vars(replace(whole, samples={})).items():
        assert name == "samples" or np.array_equal(getattr(found, name), value), name
