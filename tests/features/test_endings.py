"""Endings, by hand."""

import math

import pytest

from features import endings
from features.text import Text

PROMPT = Text(["Tell me about bees."])
TWO = "Bees live in hives. They make honey"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("empty", " \n", 1),
        ("empty", ".", 0),
        ("unfinished", "Bees live in hi", 1),
        ("unfinished", "Bees, ", 1),
        ("unfinished", "Bees live in hives. \n", 0),
        ("unfinished", "蜜蜂住在蜂箱里。", 0),
        ("unfinished", "`x = 1`", 0),
        ("unfinished", "", 0),
        ("cut_off", TWO + " and wax and", 1),
        ("cut_off", TWO + ",", 1),
        ("cut_off", TWO + ".\n1. Wax\n2.", 1),
        ("cut_off", TWO + ".\n-", 1),
        ("cut_off", TWO + ".", 0),
        ("cut_off", TWO + ":\n- Wax\n- Pollen", 0),
        ("cut_off", "蜜蜂住在蜂箱里。它们酿造", 1),
        ("cut_off", "Bees make", 0),
        ("cut_off", "", 0),
        ("dangling", "They live in the", 1),
        ("dangling", "They live.\nAnd", 1),
        ("dangling", "They live in hives", 0),
        ("dangling", "They live in the.", 0),
        ("dangling", "", 0),
        ("open_fence", "```python\nx = 1", 1),
        ("open_fence", "```python\nx = 1\n```", 0),
        ("open_fence", "x = 1", 0),
        ("open_bracket", "f(a[1], (b {", math.log(4)),
        ("open_bracket", "f(a[1], b)", 0),
        ("open_bracket", "a) b)", 0),
        ("question", "Is it so? ", 1),
        ("question", "是吗？", 1),
        ("question", "Is it? It is.", 0),
        ("full_stop", "It is.\n", 1),
        ("full_stop", "是。", 1),
        ("full_stop", "It is!", 0),
        ("colon", "Here is the list:", 1),
        ("colon", "如下：", 1),
        ("colon", "Here: a list", 0),
        ("exclamation", "Enjoy!", 1),
        ("exclamation", "好！", 1),
        ("exclamation", "Enjoy! Bye.", 0),
    ],
)
def test_by_hand(name, text, value):
    assert getattr(endings, name)(Text([text]), PROMPT) == pytest.approx(value)


@pytest.mark.parametrize("name", ["unfinished", "cut_off", "dangling"])
def test_the_last_turn_counts(name):
    cut = "Bees live in hives. They eat honey and the"
    assert getattr(endings, name)(Text(["All of it. It is done here.", cut]), PROMPT) == 1
    assert getattr(endings, name)(Text([cut, "All of it. It is done here."]), PROMPT) == 0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("It is.<|im_end|>", 1),
        ("</s> [INST] Next [/INST]", 3),
        ("<start_of_turn>model<eos>", 2),
        ("It is.\n### Human: Why?\n### Assistant: So.", 2),
        ("Q: Why?\nAnswer", 1),
        ("<b>bold</b> [1] ## Summary", 0),
        ("The user: a bee", 0),
    ],
)
def test_debris_of_chat_templates(text, count):
    assert endings.debris(Text([text]), PROMPT) == pytest.approx(math.log1p(count))


def test_speaking_for_the_user():
    talk = Text(["It is.\nUser: Why?\nBecause."])
    assert endings.speaks_for_user(talk, PROMPT) == 1
    assert endings.speaks_for_user(Text(["### Human: Why?"]), PROMPT) == 1
    assert endings.speaks_for_user(talk, Text(["Go on:\nUser: Hi"])) == 0
    assert endings.speaks_for_user(Text(["The User: a study"]), PROMPT) == 0


@pytest.mark.parametrize(
    ("turns", "value"),
    [(["tell me about bees"], 1), (["Tell me."], 0), (["tell me", "Why?"], 0), ([""], 0)],
)
def test_prompt_unfinished(turns, value):
    assert endings.prompt_unfinished(Text(turns)) == value
