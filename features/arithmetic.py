"""Arithmetic: equations in digits are the one thing that can be checked without a model."""

from __future__ import annotations

import math
import re

from features.signals import answer_signal
from features.text import Text, once

MORE_DIGITS = r"\d{0,14}(?:,\d{3}){0,4}(?:\.\d{1,10})?"
NUMERAL = rf"\d{MORE_DIGITS}"
EQUATION = re.compile(
    # Not from the middle of "2x + 3 + 4 = 13", but behind the bullet of "- 3 + 4 = 7".
    # Look-behinds see the first digit, too: see ``NUMBER``.
    r"(\d(?<![\w.,)\]^+*/×÷=−-]\d)(?<![\w)\]] [-+*/×÷−^] \d)"
    rf"{MORE_DIGITS}(?:\s?[-+*/×÷x−]\s?{NUMERAL}){{1,8}})"
    rf"\s?=\s?\$?(-?{NUMERAL})(?!\s?[-+*/×÷^(%x−]|\d|[,.]\d)"
)
HINT = re.compile(r"\d\s?=\s?\$?-?\d")
"""What every equation has; ten times as fast to look for."""
PART = re.compile(rf"{NUMERAL}|[-+*/×÷x−]")
TOLERANCE = 0.01
"""Relative error that passes for rounding."""


def value(numeral: str) -> float:
    """A numeral with or without thousands separators."""
    return float(numeral.replace(",", ""))


def evaluate(expression: str) -> float:
    """Value of numerals joined by + - * /, products first; NaN for a division by zero."""
    parts = PART.findall(expression)
    terms = [value(parts[0])]
    for operator, numeral in zip(parts[1::2], parts[2::2], strict=True):
        number = value(numeral)
        if operator == "+":
            terms.append(number)
        elif operator in "-−":
            terms.append(-number)
        elif operator in "*×x":
            terms[-1] *= number
        else:
            terms[-1] = terms[-1] / number if number else math.nan
    return sum(terms)


@once
def checked(text: Text) -> tuple[int, int]:
    """(right, wrong) equations of the text."""
    right = wrong = 0
    if "=" not in text.text or not HINT.search(text.text):
        return right, wrong
    for match in EQUATION.finditer(text.text):
        computed, stated = evaluate(match[1]), value(match[2].lstrip("-"))
        if match[2].startswith("-"):
            stated = -stated
        if abs(computed - stated) <= TOLERANCE * max(abs(computed), abs(stated)):
            right += 1
        elif not math.isnan(computed):
            wrong += 1
    return right, wrong


@answer_signal
def right_equations(answer: Text, prompt: Text) -> float:
    """Log of 1 + equations such as "12 + 30 = 42" that hold."""
    return math.log1p(checked(answer)[0])


@answer_signal
def wrong_equations(answer: Text, prompt: Text) -> float:
    """Log of 1 + equations that do not hold."""
    return math.log1p(checked(answer)[1])
