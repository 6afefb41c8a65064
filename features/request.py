"""Request: does the answer do what the prompt asks for explicitly?

All signals look at the last turn of both. NaN where the prompt asks for nothing of the kind.
"""

from __future__ import annotations

import math
import re

from features.formatting import SHORT_LINE, fences, list_items, table_lines
from features.language import language
from features.prompt_type import BRIEF, CHOICE, CODE, CREATIVE, LISTS, LONG, YES_NO_WORDS
from features.signals import answer_signal
from features.text import Lexicon, Text, once, tokenize

SMALL = {
    word: float(i)
    for i, word in enumerate(
        tokenize("one two three four five six seven eight nine ten eleven twelve"), start=1
    )
}
NUMERAL = rf"(\d{{1,2}},\d{{3}}|\d{{1,5}}|{'|'.join(SMALL)})"
SIZE = re.compile(rf"\b{NUMERAL}[ -](word|sentence|paragraph)s?\b")
ITEMS = re.compile(
    rf"\b(?:list|give|name|suggest|write|provide|generate|create|tell|top|the|find|make|what are)"
    rf"(?: me| us| of| down| out| the| at least| top)? {NUMERAL} (?!word|sentence|paragraph)"
    r"(?:\w{1,20} ){0,3}?\w{1,20}s\b"
)
YES_NO = frozenset(tokenize("yes no yeah nope true false correct incorrect sure"))
VERSE = Lexicon("poem|haiku|song|lyrics|limerick|rap|sonnet|verse|gedicht|poema|poème")
TABLE = Lexicon("table|tabular|in a table|tabelle|tableau|tabla|tabela|表格")
JSON = Lexicon("json")
QUANTITY = Lexicon("how many|how much|how old|how far|how long|how tall|what year|when did")
TARGETS = {
    name: code
    for names, code in (
        ("english", "en"),
        ("german deutsch", "de"),
        ("french français", "fr"),
        ("spanish español", "es"),
        ("portuguese português", "pt"),
        ("italian italiano", "it"),
        ("russian русский", "ru"),
        ("chinese mandarin", "zh"),
        ("japanese", "ja"),
        ("korean", "ko"),
        ("arabic", "ar"),
        ("dutch", "nl"),
        ("polish", "pl"),
        ("turkish", "tr"),
        ("swedish", "sv"),
        ("hindi", "hi"),
        ("hebrew", "he"),
        ("greek", "el"),
    )
    for name in names.split()
}
TARGET = re.compile(rf"\b(?:in|into|to|auf|en|em) ({'|'.join(TARGETS)})\b")


def number(numeral: str) -> float:
    """The value of digits, or of an English numeral up to twelve."""
    return SMALL[numeral] if numeral in SMALL else float(numeral.replace(",", ""))


@once
def size(prompt: Text) -> tuple[float, str] | None:
    """The number of words, sentences or paragraphs that the prompt asks for, and which of them."""
    match = SIZE.search(prompt.lower)
    return (number(match[1]), match[2]) if match else None


@once
def item_count(prompt: Text) -> float | None:
    """The number of items that the prompt asks for."""
    match = ITEMS.search(prompt.lower)
    return number(match[1]) if match else None


def miss(actual: float, wanted: float) -> float:
    """|log ratio| of the actual number to the number asked for; 0 is a hit."""
    return abs(math.log((actual + 0.5) / (wanted + 0.5)))


@answer_signal
def size_miss(answer: Text, prompt: Text) -> float:
    """|log ratio| of the words, sentences or paragraphs to the number asked for."""
    request = size(prompt.final)
    if request is None:
        return math.nan
    wanted, unit = request
    final = answer.final
    actual = {
        "word": len(final.words),
        "sentence": len(final.sentences),
        "paragraph": sum(1 for block in final.text.split("\n\n") if block.strip()),
    }[unit]
    return miss(actual, wanted)


@answer_signal
def items_miss(answer: Text, prompt: Text) -> float:
    """|log ratio| of the list items (or lines, or commas) to the number asked for."""
    wanted = item_count(prompt.final)
    if wanted is None:
        return math.nan
    final = answer.final
    counts = list_items(final), len(final.lines), final.count(",") + 1
    return min(miss(actual, wanted) for actual in counts)


@answer_signal
def code_missing(answer: Text, prompt: Text) -> float:
    """1 where words of programming are in the prompt and no code is in the answer."""
    if not CODE.matches(prompt.final):
        return math.nan
    final = answer.final
    return float(not fences(final) and final.count("{}=;<>`") < 5)


@answer_signal
def list_missing(answer: Text, prompt: Text) -> float:
    """1 where the prompt asks for a list and the answer has fewer than two items."""
    return float(list_items(answer.final) < 2) if LISTS.matches(prompt.final) else math.nan


@answer_signal
def table_missing(answer: Text, prompt: Text) -> float:
    """1 where the prompt asks for a table and the answer has none."""
    if not TABLE.matches(prompt.final):
        return math.nan
    return float(table_lines(answer.final) < 2)


@answer_signal
def json_missing(answer: Text, prompt: Text) -> float:
    """1 where the prompt asks for JSON and the answer has no braces or brackets."""
    return float(answer.final.count("{[") == 0) if JSON.matches(prompt.final) else math.nan


@answer_signal
def verse_lines(answer: Text, prompt: Text) -> float:
    """Share of short lines where the prompt asks for verse."""
    if not VERSE.matches(prompt.final):
        return math.nan
    lines = answer.final.lines
    return sum(len(line) < SHORT_LINE * 1.5 for line in lines) / max(1, len(lines))


@answer_signal
def number_missing(answer: Text, prompt: Text) -> float:
    """1 where the prompt asks for a quantity and the answer has no digit."""
    return float(not answer.final.numbers) if QUANTITY.matches(prompt.final) else math.nan


@answer_signal
def yes_no_missing(answer: Text, prompt: Text) -> float:
    """1 where the prompt asks for yes or no and the first three words hold neither."""
    if not YES_NO_WORDS.intersection(prompt.final.words[:1]):
        return math.nan
    return float(not YES_NO.intersection(answer.final.words[:3]))


@answer_signal
def choice_missing(answer: Text, prompt: Text) -> float:
    """1 where options A, B, ... are given and the answer names none of them as a letter."""
    if not CHOICE.search(prompt.final.text[-3000:]):
        return math.nan
    return float(not re.search(r"\b[A-E]\b[).:]?|\([a-e]\)", answer.final.text))


@answer_signal
def wrong_target(answer: Text, prompt: Text) -> float:
    """How surely the answer is not in the language that the prompt names, in [0, 1]."""
    target = TARGET.search(prompt.final.lower)
    if target is None:
        return math.nan
    code, probability = language(answer.final)
    return probability if code != TARGETS[target[1]] else 0.0


@answer_signal
def words_if_brief(answer: Text, prompt: Text) -> float:
    """Log of 1 + words where the prompt asks for brevity: here length counts against."""
    return math.log1p(len(answer.final.words)) if BRIEF.matches(prompt.final) else math.nan


@answer_signal
def words_if_detailed(answer: Text, prompt: Text) -> float:
    """Log of 1 + words where the prompt asks for detail."""
    return math.log1p(len(answer.final.words)) if LONG.matches(prompt.final) else math.nan


@answer_signal
def words_if_creative(answer: Text, prompt: Text) -> float:
    """Log of 1 + words where the prompt asks for a story or a poem."""
    return math.log1p(len(answer.final.words)) if CREATIVE.matches(prompt.final) else math.nan
