"""Markdown and punctuation, by hand."""

import math

import pytest

from features import formatting
from features.signals import ANSWER
from features.text import Text

PROMPT = Text(["?"])
MARKDOWN = """# Title

Some **bold** and *slanted* and `code`. See [a](http://x.y) [1].

## Part: two
- one
- two
  - nested
1. first
2) second

**Heading**

| a | b |
|---|---|

```python
x = 1
```
Costs $x^2$, done 😀!
"""


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("headers", 2),
        ("bold", 2),
        ("bold_lines", 1),
        ("italics", 1),
        ("bullets", 3),
        ("numbered", 2),
        ("nested", 1),
        ("code_blocks", 1),
        ("inline_code", 1),
        ("table_rows", 2),
        ("latex", 1),
        ("links", 1),
        ("citations", 1),
        ("emoji", 1),
        ("exclamation_marks", 1),
        ("question_marks", 0),
        ("html", 0),
        ("blank_lines", 5),
    ],
)
def test_counts(name, count):
    assert ANSWER[f"formatting.{name}"](Text([MARKDOWN]), PROMPT) == pytest.approx(
        math.log1p(count)
    )


def test_shares():
    text = Text(["List:\n- ab\n- cd\nEnd"])
    assert formatting.list_share(text, PROMPT) == 0.5
    assert formatting.colon_lines(text, PROMPT) == 0.25
    assert formatting.short_lines(text, PROMPT) == 1
    assert formatting.longest_line(text, PROMPT) == pytest.approx(math.log(6))
    assert formatting.uppercase(Text(["ABcd"]), PROMPT) == 0.5
    assert formatting.commas(Text(["a,b,"]), PROMPT) == 0.5
    assert formatting.parentheses(Text(["(a)b"]), PROMPT) == 0.25
    assert formatting.symbols(Text(["a={}"]), PROMPT) == 0.75
    assert formatting.blanks(Text(["a b\n"]), PROMPT) == 0.5
    assert formatting.control_characters(Text(["\x00\n\tx"]), PROMPT) == 0.25


def test_start_and_end():
    assert formatting.leading_blank(Text([" Here"]), PROMPT) == 1
    assert formatting.trailing_blank(Text(["Here\n"]), PROMPT) == 1
    assert formatting.leading_blank(Text(["Here"]), PROMPT) == 0
    assert formatting.lowercase_start(Text([" and so on"]), PROMPT) == 1
    assert formatting.lowercase_start(Text(["And so on"]), PROMPT) == 0


def test_labels_quotes_and_open_code():
    text = Text(['Deep breathing: slow.\n2. Sleep: long.\nHe said "no" and «oui».'])
    assert formatting.labels(text, PROMPT) == pytest.approx(math.log(3))
    assert formatting.quotes(text, PROMPT) == pytest.approx(math.log(5))
    assert formatting.code_blocks(Text(["```\nx = 1"]), PROMPT) == pytest.approx(math.log(2))
    assert formatting.html(Text(["<b>x</b> 1 < 2"]), PROMPT) == pytest.approx(math.log(3))
