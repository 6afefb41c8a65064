"""Handcrafted signals against the same measures computed one by one, as notebooks do.

    python benchmarks/features.py
    python benchmarks/features.py --quick
    python benchmarks/features.py --all            also all 57,477 rows, on all cores

Two rivals, both with pandas' ``apply``, a column at a time, each from the raw texts of its row:

* ``textstat``: the readability formulas alone, by textstat's own functions, against ours of these
  columns alone. Their values are compared: they are the same.
* ``apply``: every signal of the registry by itself, readability by textstat's functions and all
  others by ours on a fresh text, so that nothing is split or counted once for two columns; the
  phrases of one lexicon alone.

Ours and the rivals run in turn on one core, on other rows each time (nobody profits from texts seen
before); printed are medians of rows per processor second, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from unittest.mock import patch

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd
import textstat

import features
from benchmarks.lmsys_like import ROWS, table
from features import extraction, signals
from features.readability import LONGEST_WORD
from features.text import PAIRS, VOCABULARY, Lexicon, Text, clip

FORMULAS: dict[str, Callable[[str], float]] = {
    "readability.flesch": textstat.flesch_reading_ease,
    "readability.kincaid": textstat.flesch_kincaid_grade,
    "readability.fog": textstat.gunning_fog,
    "readability.smog": textstat.smog_index,
    "readability.coleman_liau": textstat.coleman_liau_index,
    "readability.automated": textstat.automated_readability_index,
    "readability.dale_chall": textstat.dale_chall_readability_score,
    "readability.lix": textstat.lix,
}
ANSWERS = ("response_a", "response_b")


def text(turns: list[str | None]) -> str:
    """The turns as one text."""
    return "\n".join(turn or "" for turn in turns)


def by_textstat(battles: pd.DataFrame) -> pd.DataFrame:
    """The readability formulas of both answers, a column each."""
    texts = {name: battles[name].apply(text) for name in ANSWERS}
    return pd.DataFrame(
        {f"{f}.{name}": texts[name].apply(FORMULAS[f]) for f in FORMULAS for name in ANSWERS}
    )


def our_readability(battles: pd.DataFrame) -> pd.DataFrame:
    """The same columns by our functions, which share what they count."""
    texts = {name: [Text(turns) for turns in battles[name]] for name in ANSWERS}
    prompt = Text([])
    values = {
        f"{f}.{name}": [signals.ANSWER[f](answer, prompt) for answer in texts[name]]
        for f in FORMULAS
        for name in ANSWERS
    }
    return pd.DataFrame(values, index=battles.index)


@functools.cache
def phrases_of(lexicon: Lexicon) -> list[tuple[str, str, str]]:
    """A lexicon's phrases, each with its two longest words."""
    entries = [
        entry
        for by_word in (VOCABULARY, PAIRS)
        for entries in by_word.values()
        for entry in entries
    ]
    phrases = [phrase for of, phrase in entries if of is lexicon]
    longest = [sorted(phrase.split(), key=len, reverse=True) for phrase in phrases]
    return [
        (word, phrase, others[0] if others else "")
        for (word, *others), phrase in zip(longest, phrases, strict=True)
    ]


def matches_of_one(lexicon: Lexicon, text: Text) -> list[str]:
    """The phrases of one lexicon that occur: ours looks for those of all in one pass."""
    return [
        phrase
        for word, phrase, other in phrases_of(lexicon)
        if word in text.counts and (not other or (other in text.counts and phrase in text.spoken))
    ]


@patch("features.text.Lexicon.matches", matches_of_one)
def by_apply(battles: pd.DataFrame) -> None:
    """Every signal by itself, from the raw texts of each row."""
    by_textstat(battles)
    for name, answer_signal in signals.ANSWER.items():
        for answer in ANSWERS if name not in FORMULAS else ():
            battles.apply(
                lambda row, f=answer_signal, a=answer: f(Text(row[a]), Text(row["prompt"])), axis=1
            )
    for prompt_signal in signals.PROMPT.values():
        battles["prompt"].apply(lambda turns, f=prompt_signal: f(Text(turns)))
    for pair in signals.PAIR.values():
        battles.apply(
            lambda row, f=pair.compute: f(*(Text(row[n]) for n in (*ANSWERS, "prompt"))), axis=1
        )


def ours(battles: pd.DataFrame) -> None:
    """The whole view, on one core and without the progress line."""
    extraction.compute([tuple(row) for row in battles[["prompt", *ANSWERS]].to_numpy()])


def rate(work: Callable[[pd.DataFrame], object], battles: pd.DataFrame) -> float:
    """Rows per processor second."""
    start = time.process_time()
    work(battles)
    return len(battles) / (time.process_time() - start)


def compare(
    name: str,
    mine: Callable[[pd.DataFrame], object],
    rival: Callable[[pd.DataFrame], object],
    rows: int,
    times: int,
) -> None:
    """Run both in turn on fresh rows each time and print medians and their ratio."""
    rates = []
    for i in range(times):
        first, second = (table(rows, (2 * i + k) * rows) for k in range(2))
        rates.append((rate(mine, first), rate(rival, second)))
    a, b = np.median(rates, axis=0)
    print(f"{name:9} ours {a:8.1f} rows/s   rival {b:8.1f} rows/s   {a / b:5.1f} times", flush=True)


def check(battles: pd.DataFrame) -> None:
    """Hold our readability to textstat's own, where plain ASCII is all that we read."""

    def plain(turns: list[str | None]) -> bool:
        answer = text(turns)
        longest = max(map(len, answer.split()), default=0)
        return answer.isascii() and answer == clip(answer) and longest <= LONGEST_WORD

    battles = battles[battles[list(ANSWERS)].map(plain).all(axis=1)]
    mine, theirs = our_readability(battles), by_textstat(battles)
    # Ours is NaN where a text has no words.
    defined = mine.notna().to_numpy()
    np.testing.assert_allclose(
        mine.to_numpy()[defined], theirs.to_numpy()[defined], rtol=1e-9, atol=1e-9
    )
    print(f"readability: {int(defined.sum()):,} values are textstat's own")


def main() -> None:
    """Compare, in turn."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--quick", action="store_true", help="fewer rows, three times")
    p.add_argument("--all", action="store_true", help=f"also {ROWS:,} rows on all cores")
    arguments = p.parse_args()
    rows, times = (30, 3) if arguments.quick else (200, 5)
    warm = table(300, 10**6)
    ours(warm)
    check(warm.head(100))
    print(f"{rows} rows, {times} times in turn, one core, medians of rows per processor second")
    compare("textstat", our_readability, by_textstat, rows, times)
    compare("apply", ours, by_apply, rows, times)
    if arguments.all:
        battles = table(ROWS)
        start = time.perf_counter()
        view = features.extract(battles)
        seconds = time.perf_counter() - start
        print(f"{len(view.ids):,} rows, {len(view.columns)} columns on all cores: {seconds:.1f} s")


if __name__ == "__main__":
    main()
