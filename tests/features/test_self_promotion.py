"""Self-promotion, by hand."""

import math

import pytest

from features import self_promotion
from features.text import Text

PROMPT = Text(["Name three big cities"])


def test_names_that_the_prompt_does_not_bring_up():
    answer = Text(["I am Vicuna, made by LMSYS. Vicuna!"])
    assert self_promotion.names_itself(answer, PROMPT) == pytest.approx(math.log(3))
    asked = Text(["Are you Vicuna?"])
    assert self_promotion.names_itself(answer, asked) == pytest.approx(math.log(2))
    assert self_promotion.names_itself(Text(["Paris, Rome, Oslo"]), PROMPT) == 0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("My name is Bob. I was created by a team.", 2),
        ("Ich wurde entwickelt, um zu helfen.", 1),
        ("我是由一个团队开发的。", 1),
        ("The bridge was built by a team.", 0),
    ],
)
def test_identity(text, count):
    assert self_promotion.identity(Text([text]), PROMPT) == pytest.approx(math.log1p(count))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("This comprehensive list is all you need. Rest assured, I have carefully checked it.", 3),
        ("Voici une réponse détaillée.", 1),
        ("Paris, Rome, Oslo.", 0),
    ],
)
def test_self_praise(text, count):
    assert self_promotion.self_praise(Text([text]), PROMPT) == pytest.approx(math.log1p(count))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Good question! You're right.", 2),
        ("Gute Frage!", 1),
        ("好问题！", 1),
        ("The question is hard.", 0),
    ],
)
def test_flattery(text, count):
    assert self_promotion.flattery(Text([text]), PROMPT) == pytest.approx(math.log1p(count))


def test_offers_stand_at_the_end():
    assert self_promotion.offers(Text(["Rome. I hope this helps!"]), PROMPT) == 1
    assert self_promotion.offers(Text(["I hope this helps!" + " Rome" * 56]), PROMPT) == 1
    assert self_promotion.offers(Text(["I hope this helps!" + " Rome" * 60]), PROMPT) == 0
    assert self_promotion.offers(Text(["I hope this helps!", "Rome."]), PROMPT) == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Sure! Rome.", 1),
        ("Here are three: Rome", 1),
        ("当然可以", 1),
        ("Rome, Oslo, Paris, sure", 1),
        ("Rome, Oslo, Paris, Cairo, sure", 0),
        ("", 0),
    ],
)
def test_eager_is_in_the_first_four_words(text, value):
    assert self_promotion.eager(Text([text]), PROMPT) == value


def test_restates_is_the_share_of_the_first_line():
    assert self_promotion.restates(Text(["Three big cities are:\nRome, Oslo"]), PROMPT) == 3 / 4
    assert self_promotion.restates(Text(["Rome.\nThree big cities."]), PROMPT) == 0
    assert self_promotion.restates(Text(["Three big cities", "Oslo"]), PROMPT) == 0
    assert self_promotion.restates(Text([" \n"]), PROMPT) == 0
