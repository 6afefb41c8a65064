"""Equations by hand; what is no equation is left alone."""

import ast
import math
from pathlib import Path

import pytest

from features import arithmetic
from features.text import Text

PROMPT = Text(["?"])


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 3 * 4", 14),
        ("20 - 6 / 2 - 1", 16),
        ("1,000 + 0.5", 1000.5),
        ("2 × 3", 6),
        ("2 x 3", 6),
        ("9 ÷ 2", 4.5),
        ("5 − 7", -2),
        ("8 / 4 / 2", 1),
    ],
)
def test_evaluate(expression, value):
    assert arithmetic.evaluate(expression) == value


@pytest.mark.parametrize("expression", ["1 / 0", "3 + 1 / 0", "0 / 0 * 2", "5 ÷ 0.0"])
def test_division_by_zero_has_no_value(expression):
    assert math.isnan(arithmetic.evaluate(expression))


def test_nothing_is_executed():
    tree = ast.parse(Path(arithmetic.__file__).read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert names.isdisjoint({"eval", "exec", "compile", "__import__"})


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        ("12 + 30 = 42.", 1, 0),
        ("12 + 30 = 43", 0, 1),
        ("3+4=7", 1, 0),
        ("So 12 × 3 = 36, and 100 ÷ 4 = 26.", 1, 1),
        ("It costs $12 + 30 = $42", 1, 0),
        ("5 - 8 = -3", 1, 0),
        ("5 - 8 = 3", 0, 1),
        ("10 / 3 = 3.33", 1, 0),
        ("10 / 3 = 3.5", 0, 1),
        ("1,000 + 1 = 1,001", 1, 0),
        ("5 / 0 = 3", 0, 0),
        ("1 - 1 = 0", 1, 0),
    ],
)
def test_equations(text, right, wrong):
    answer = Text([text])
    assert arithmetic.right_equations(answer, PROMPT) == pytest.approx(math.log1p(right))
    assert arithmetic.wrong_equations(answer, PROMPT) == pytest.approx(math.log1p(wrong))


@pytest.mark.parametrize(
    "text",
    [
        "x = 5",
        "2x + 3 + 4 = 13",
        "x - 3 + 4 = 9",
        "(1 + 2) * 3 + 4 = 13",
        "2^3 + 4 = 12",
        "2 * (3 + 4) = 14",
        "3 + 4 = 7%",
        "10 + 2 = 12^2",
        "1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + 10 = 55",
        "v1.2+3=4",
        "no digits = none",
    ],
)
def test_what_is_no_equation_of_numerals(text):
    assert arithmetic.checked(Text([text])) == (0, 0)


@pytest.mark.parametrize(
    "text", ["5 * 2 + 4 = 10 + 4 = 14", "6 + 8 = 14 / 2 = 7", "- 3 + 4 = 7", "y = 3 + 4 = 7"]
)
def test_chains_and_bullets_are_checked_where_they_end(text):
    assert arithmetic.checked(Text([text])) == (1, 0)
