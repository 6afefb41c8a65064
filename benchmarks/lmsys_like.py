"""Synthetic battles with the lengths, turns and Markdown of LMSYS train.csv, as many as asked for.

    python benchmarks/lmsys_like.py --rows 57477 --out /tmp/lmsys-like.csv

The sentences are those of the sample's answers, the votes are drawn blindly. Lengths follow a
log-normal fitted to the public first rows of train.csv: about 3,200 characters a row, 1.3 turns.
Every third sentence gets a rare word, so that the number of distinct words grows with the rows as
it does in text that people write (Heaps' law) and no cache of words looks better than it is.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd

from arena import sample
from arena.reader import read_battles
from arena.schema import CLASSES, COLUMNS, UNKNOWN, digest

ROWS = 57_477
"""Rows of LMSYS train.csv."""
TURNS = (0.87, 0.08, 0.02, 0.02, 0.01)
"""Share of the conversations with one turn, two, ..."""
PROMPT = (4.5, 1.2, 8_000)
ANSWER = (6.35, 1.2, 20_000)
"""Mean and standard deviation of the log of a turn's characters, and the most there may be."""
SYLLABLES = tuple(
    "ka ro mi ten sul ver an tor ique lin dor ex pra gen o ber ult stra ne cal".split()  # noqa: SIM905
)
NEW_WORD = 1.6
"""Exponent of the rare words' Zipf distribution."""

Row = tuple[list[str], list[str], list[str], int]


@functools.cache
def sentences() -> list[str]:
    """Sentences of the sample's answers."""
    table = read_battles(str(sample.TRAIN), labelled=True)
    texts = [t for name in ("response_a", "response_b") for turns in table[name] for t in turns]
    return [s for t in texts for s in re.split(r"(?<=[.!?])\s+|\n+", t or "") if 20 < len(s) < 400]


def rare_word(draw: random.Random) -> str:
    """A word by its Zipf rank: frequent ones come again, new ones never end."""
    rank = int(draw.paretovariate(NEW_WORD - 1) * 50) % 10**9
    word = ""
    while rank:
        rank, syllable = divmod(rank, len(SYLLABLES))
        word += SYLLABLES[syllable]
    return word


def sentence(draw: random.Random) -> str:
    """One sentence; in every third a word is replaced by a rare one."""
    sentence = draw.choice(sentences())
    if draw.random() < 0.33:
        words = sentence.split(" ")
        words[draw.randrange(len(words))] = rare_word(draw)
        return " ".join(words)
    return sentence


def block(draw: random.Random) -> str:
    """A paragraph, a list, a header, code, a table or a formula."""
    kind = draw.random()
    if kind < 0.55:
        return " ".join(sentence(draw) for _ in range(draw.randint(1, 5)))
    if kind < 0.72:
        return "\n".join(f"* {sentence(draw)}" for _ in range(draw.randint(3, 6)))
    if kind < 0.88:
        items = range(1, draw.randint(4, 8))
        return "\n".join(f"{i}. **{rare_word(draw).title()}**: {sentence(draw)}" for i in items)
    if kind < 0.92:
        return f"## {rare_word(draw).title()} and {rare_word(draw)}"
    if kind < 0.97:
        names = [rare_word(draw) for _ in range(draw.randint(3, 9))]
        lines = [f"    {name} = f({name}, {draw.randint(0, 99)})" for name in names]
        return "\n".join(["```python", f"def {names[0]}(x):", *lines, "```"])
    if kind < 0.99:
        cells = [f"| {rare_word(draw)} | {draw.randint(1, 5000):,} |" for _ in range(4)]
        return "\n".join(["| name | value |", "|---|---|", *cells])
    return f"$\\frac{{{draw.randint(1, 9)}}}{{x}}$ and 12 + {draw.randint(1, 9)} = 20"


def turn(draw: random.Random, lengths: tuple[float, float, int]) -> str:
    """A turn of a log-normal length, cut where it is full, as answers are."""
    mean, deviation, most = lengths
    size = min(most, int(draw.lognormvariate(mean, deviation)) + 1)
    blocks, total = [], 0
    while total < size:
        blocks.append(block(draw) if size > 200 else sentence(draw))
        total += len(blocks[-1]) + 2
    return "\n\n".join(blocks)[:size]


def rows(count: int, first: int = 0) -> Iterator[Row]:
    """Prompt, both answers, label of rows ``first`` to ``first + count``: the same every time."""
    for number in range(first, first + count):
        draw = random.Random(number)
        (turns,) = draw.choices(range(1, len(TURNS) + 1), TURNS)
        prompt = [turn(draw, PROMPT) for _ in range(turns)]
        a, b = ([turn(draw, ANSWER) for _ in range(turns)] for _ in range(2))
        yield prompt, a, b, draw.choices(range(3), (0.35, 0.34, 0.31))[0]


def table(count: int, first: int = 0) -> pd.DataFrame:
    """The same rows as a canonical table, each a group of its own."""
    records = []
    for number, (prompt, a, b, _) in enumerate(rows(count, first), start=first):
        key = digest([prompt, a, b])
        records.append((str(number), number, prompt, a, b, UNKNOWN, "", "", "", key, key))
    battles = pd.DataFrame(records, columns=list(COLUMNS))
    return battles.astype({"row": np.int64, "label": np.int8})


def write_csv(path: Path, count: int) -> None:
    """Write the rows in the LMSYS layout, its cells as Kaggle's: JSON lists in ASCII."""
    write_rows(path, rows(count))


def write_rows(path: Path, battles: Iterable[Row], first: int = 0) -> None:
    """Write any rows as :func:`write_csv` does, with ids from that of row ``first`` on."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["id", "model_a", "model_b", "prompt", "response_a", "response_b", *CLASSES]
        )
        for number, (prompt, a, b, label) in enumerate(battles, start=first):
            cells = [json.dumps(turns).replace("/", "\\/") for turns in (prompt, a, b)]
            votes = [int(label == i) for i in range(3)]
            writer.writerow([30_192 + number, "model-x", "model-y", *cells, *votes])


def main() -> None:
    """Write a file."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--rows", type=int, default=ROWS, help=f"rows ({ROWS})")
    p.add_argument("--out", type=Path, required=True, help="CSV to write")
    arguments = p.parse_args()
    write_csv(arguments.out, arguments.rows)


if __name__ == "__main__":
    main()
