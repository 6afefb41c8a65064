"""Formatting: Markdown, layout and punctuation. Lists, headers and bold type win votes."""

from __future__ import annotations

import math
import re

from features.signals import answer_signal
from features.text import Text, once

# Every quantifier has a bound: a megabyte of one of these characters must not cost more than text.
# Those that begin with a line break are for ``Text.lined``.
HEADER = re.compile(r"\n {0,3}#{1,6}[ \t]+\S")
BOLD = re.compile(r"(?:\*\*|__)(?=\S)[^\n*_]{1,200}(?:\*\*|__)")
BOLD_LINE = re.compile(r"\n[ \t]{0,8}(?:\*\*|__)[^\n*]{1,200}(?:\*\*|__):?[ \t]{0,8}$", re.M)
ITALIC = re.compile(r"\*(?<![\w*]\*)(?=[^\s*])[^\n*]{1,200}\*(?![\w*])")
BULLET = re.compile(r"\n[ \t]{0,20}[-*+•‣◦–][ \t]+\S")
NUMBERED = re.compile(r"\n[ \t]{0,20}(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)][ \t]+\S")
NESTED = re.compile(r"\n(?:[ ]{2,20}|\t[ \t]{0,20})(?:[-*+•‣◦–]|\d{1,3}[.)])[ \t]+\S")
FENCE = re.compile(r"\n[ \t]{0,8}(?:```|~~~)")
INLINE_CODE = re.compile(r"`(?<!``)[^`\n]{1,200}`(?!`)")
TABLE_ROW = re.compile(r"\n[ \t]{0,8}\|[^\n]{0,500}\|[ \t]{0,8}$", re.M)
LATEX = re.compile(r"\$[^$\n]{1,200}\$|\\[(\[]|\\(?:frac|sqrt|sum|int|begin|text|cdot|times)\b")
LINK = re.compile(r"https?://|www\.(?<!\wwww\.)|\]\([^)\n]{1,200}\)")
CITATION = re.compile(r"\[\d{1,3}\]")
HTML = re.compile(r"</?[a-zA-Z][a-zA-Z0-9]{0,15}(?:\s[^<>\n]{0,200})?/?>")
LABEL = re.compile(r"\n[ \t]{0,8}(?:[-*\d.)]{1,4}[ \t]+)?[*_]{0,2}[A-Z][^\n:.?!]{0,60}:")
EMOJI = re.compile("[\u2600-\u27bf\u2b00-\u2bff\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff]")
SHORT_LINE = 40
"""Characters under which a line is a title, an item or a verse rather than running text."""


def log_count(pattern: re.Pattern[str], text: Text) -> float:
    """Log of 1 + matches in the clipped text."""
    return math.log1p(len(pattern.findall(text.text)))


def log_lines(pattern: re.Pattern[str], text: Text) -> float:
    """Log of 1 + lines that match from their start, see ``Text.lined``."""
    return math.log1p(len(pattern.findall(text.lined)))


def per_character(count: int, text: Text) -> float:
    """A count as a share of the clipped text's characters."""
    return count / max(1, len(text.text))


def per_line(count: int, text: Text) -> float:
    """A count as a share of the lines that are not blank."""
    return count / max(1, len(text.lines))


@once
def list_items(text: Text) -> int:
    """Bulleted and numbered lines."""
    return len(BULLET.findall(text.lined)) + len(NUMBERED.findall(text.lined))


@once
def table_lines(text: Text) -> int:
    """Rows of Markdown tables."""
    return len(TABLE_ROW.findall(text.lined)) if "|" in text.text else 0


@once
def fences(text: Text) -> int:
    """Lines that open or close a code block."""
    return len(FENCE.findall(text.lined)) if "```" in text.text or "~~~" in text.text else 0


@answer_signal
def headers(answer: Text, prompt: Text) -> float:
    """Log of 1 + Markdown headers."""
    return log_lines(HEADER, answer)


@answer_signal
def bold(answer: Text, prompt: Text) -> float:
    """Log of 1 + passages in bold type."""
    return log_count(BOLD, answer)


@answer_signal
def bold_lines(answer: Text, prompt: Text) -> float:
    """Log of 1 + lines all in bold type: headers in disguise."""
    return log_lines(BOLD_LINE, answer)


@answer_signal
def italics(answer: Text, prompt: Text) -> float:
    """Log of 1 + passages between single asterisks."""
    return log_count(ITALIC, answer)


@answer_signal
def bullets(answer: Text, prompt: Text) -> float:
    """Log of 1 + bulleted lines."""
    return log_lines(BULLET, answer)


@answer_signal
def numbered(answer: Text, prompt: Text) -> float:
    """Log of 1 + numbered or lettered lines."""
    return log_lines(NUMBERED, answer)


@answer_signal
def nested(answer: Text, prompt: Text) -> float:
    """Log of 1 + indented list items."""
    return log_lines(NESTED, answer)


@answer_signal
def list_share(answer: Text, prompt: Text) -> float:
    """List items as a share of the lines that are not blank."""
    return per_line(list_items(answer), answer)


@answer_signal
def code_blocks(answer: Text, prompt: Text) -> float:
    """Log of 1 + fenced code blocks; an open one counts."""
    return math.log1p((fences(answer) + 1) // 2)


@answer_signal
def inline_code(answer: Text, prompt: Text) -> float:
    """Log of 1 + passages between single backticks."""
    return log_count(INLINE_CODE, answer)


@answer_signal
def table_rows(answer: Text, prompt: Text) -> float:
    """Log of 1 + rows of a Markdown table."""
    return math.log1p(table_lines(answer))


@answer_signal
def latex(answer: Text, prompt: Text) -> float:
    """Log of 1 + LaTeX formulas and commands."""
    return log_count(LATEX, answer)


@answer_signal
def links(answer: Text, prompt: Text) -> float:
    """Log of 1 + web addresses and Markdown links."""
    text = answer.text
    has_link = "://" in text or "www." in text or "](" in text
    return log_count(LINK, answer) if has_link else 0.0


@answer_signal
def citations(answer: Text, prompt: Text) -> float:
    """Log of 1 + marks such as [1]."""
    return log_count(CITATION, answer)


@answer_signal
def html(answer: Text, prompt: Text) -> float:
    """Log of 1 + HTML tags."""
    return log_count(HTML, answer) if "<" in answer.text else 0.0


@answer_signal
def emoji(answer: Text, prompt: Text) -> float:
    """Log of 1 + emoji and pictographs."""
    return math.log1p(len(EMOJI.findall(answer.foreign)))


@answer_signal
def blank_lines(answer: Text, prompt: Text) -> float:
    """Log of 1 + blank lines between others."""
    return math.log1p(max(0, answer.text.strip().count("\n") + 1 - len(answer.lines)))


@answer_signal
def labels(answer: Text, prompt: Text) -> float:
    """Log of 1 + lines that begin with a label and a colon ("Deep breathing: ...")."""
    return log_lines(LABEL, answer)


@answer_signal
def colon_lines(answer: Text, prompt: Text) -> float:
    """Lines that end with a colon, as a share of the lines."""
    return per_line(sum(line.endswith((":", "：")) for line in answer.lines), answer)


@answer_signal
def short_lines(answer: Text, prompt: Text) -> float:
    """Short lines as a share of the lines."""
    return per_line(sum(len(line) < SHORT_LINE for line in answer.lines), answer)


@answer_signal
def longest_line(answer: Text, prompt: Text) -> float:
    """Log of 1 + characters of the longest line: a wall of text."""
    return math.log1p(max(map(len, answer.lines), default=0))


@answer_signal
def uppercase(answer: Text, prompt: Text) -> float:
    """Capital ASCII letters as a share of the characters."""
    return per_character(sum(answer.ascii_counts[65:91]), answer)


@answer_signal
def lowercase_start(answer: Text, prompt: Text) -> float:
    """1 where the answer begins with a small letter: raw continuation rather than a reply."""
    return float(answer.text.lstrip()[:1].islower())


@answer_signal
def leading_blank(answer: Text, prompt: Text) -> float:
    """1 where the answer begins with white space, which some models always leave there."""
    return float(answer.text[:1].isspace())


@answer_signal
def trailing_blank(answer: Text, prompt: Text) -> float:
    """1 where the answer ends with white space."""
    return float(answer.text[-1:].isspace())


@answer_signal
def exclamation_marks(answer: Text, prompt: Text) -> float:
    """Log of 1 + exclamation marks."""
    return math.log1p(answer.count("!"))


@answer_signal
def question_marks(answer: Text, prompt: Text) -> float:
    """Log of 1 + question marks."""
    return math.log1p(answer.count("?"))


@answer_signal
def quotes(answer: Text, prompt: Text) -> float:
    """Log of 1 + double quotation marks."""
    return math.log1p(answer.count('"') + sum(map(answer.foreign.count, "“”«»„")))


@answer_signal
def commas(answer: Text, prompt: Text) -> float:
    """Commas per character: winding sentences and enumerations."""
    return per_character(answer.count(","), answer)


@answer_signal
def parentheses(answer: Text, prompt: Text) -> float:
    """Opening parentheses per character."""
    return per_character(answer.count("("), answer)


@answer_signal
def symbols(answer: Text, prompt: Text) -> float:
    """Characters of code and mathematics per character."""
    return per_character(answer.count("{}[]<>=+*/\\|^~_&%$#@;"), answer)


@answer_signal
def blanks(answer: Text, prompt: Text) -> float:
    """White space as a share of the characters."""
    return per_character(answer.count(" \t\n\r"), answer)


@answer_signal
def control_characters(answer: Text, prompt: Text) -> float:
    """ASCII control characters, but tabs and line ends, as a share of the characters."""
    return per_character(sum(answer.ascii_counts[:32]) - answer.count("\t\n\r"), answer)
