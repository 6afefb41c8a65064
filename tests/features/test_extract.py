"""The whole view: parity, order, finiteness, speed, independence of the workers."""

import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import features
from arena.swap import swap_battles
from features import signals
from features.text import Text

WORDS = st.sampled_from(
    [
        "sorry",
        "i",
        "cannot",
        "as an ai",
        "the",
        "5",
        "3 + 4 = 7",
        "- item\n",
        "**bold**",
        "```",
        "?",
    ]
)
TURN = st.none() | st.text(max_size=60) | st.lists(WORDS, max_size=15).map(" ".join)
TURNS = st.lists(TURN, min_size=1, max_size=3)
UNITS = (
    *("a", "1", "\n", " ", "*", "[", "`", "# ", "<a ", "|\n", "$", "'", "_", "- ", "a.", "A b"),
    *("😀", "你", "İ", "\x00\x1b", "\ud800", "1+1=", "1,234", " A) ", "\\", "..."),
    "give five a b c ",
)
"""Texts of a repeated unit, on which one expression or another could go quadratic."""


def table(*rows: tuple[list[str | None], list[str | None], list[str | None]]) -> pd.DataFrame:
    prompts, firsts, seconds = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            "id": [f"x{len(rows) - i}" for i in range(len(rows))],
            "prompt": list(prompts),
            "response_a": list(firsts),
            "response_b": list(seconds),
            "model_a": "",
            "model_b": "",
            "label": np.int8(-1),
        }
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TURNS, TURNS, TURNS), min_size=1, max_size=3))
def test_swapped_battles_give_the_swapped_view(rows):
    battles = table(*rows)
    view, swapped = features.extract(battles), features.extract(swap_battles(battles))
    np.testing.assert_array_equal(swapped.values, view.swapped_values())


@settings(max_examples=100, deadline=None)
@given(TURNS, TURNS, TURNS)
def test_values_are_finite_or_missing(prompt, a, b):
    values = features.extract(table((prompt, a, b))).values
    assert values.dtype == np.float32
    assert not np.isinf(values).any()


@settings(max_examples=60, deadline=None)
@given(TURNS, TURNS)
def test_identical_answers_have_no_side(prompt, answer):
    view = features.extract(table((prompt, answer, answer)))
    anti = [i for i, column in enumerate(view.columns.values()) if column.parity == "anti"]
    assert not np.nan_to_num(view.values[0, anti]).any()


def test_ids_and_order_are_kept_and_columns_declared():
    rows = [(["zebra?"], ["One."], ["Two words."]), (["apple?"], ["Three of them."], ["Four."])]
    view = features.extract(table(*rows))
    assert view.ids == ["x2", "x1"]
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(view.values[i], features.extract(table(row)).values[0])
    families = {column.family for column in view.columns.values()}
    assert {name.partition(".")[0] for name in view.names} == families
    assert {"verbosity", "position", "formatting", "refusal", "self_promotion"} <= families
    assert not any("model_a" in name for name in view.names)


def test_result_does_not_depend_on_workers():
    rows = [([f"Question {i}?"], [f"Answer {i}. " * i], ["No."]) for i in range(300)]
    battles = table(*rows)
    one, two = features.extract(battles, workers=1), features.extract(battles, workers=2)
    np.testing.assert_array_equal(one.values, two.values)
    assert one.columns == two.columns


def test_parts_give_the_parts_of_the_view():
    rows = [([f"Question {i % 7}?"], [f"Answer {i}. " * i], ["No."]) for i in range(40)]
    battles = table(*rows)
    whole = features.extract(battles)
    parts = [battles.iloc[:25], battles.iloc[25:25], battles.iloc[25:]]
    for workers in (1, 2):
        views = list(features.stream(iter(parts), len(battles), workers))
        assert [view.ids for view in views] == [part["id"].tolist() for part in parts]
        np.testing.assert_array_equal(np.concatenate([v.values for v in views]), whole.values)


def test_no_battles_give_an_empty_view():
    view = features.extract(table((["a"], ["b"], ["c"])).iloc[:0])
    assert view.values.shape == (0, len(signals.columns()))


def long(unit: str, characters: int) -> pd.DataFrame:
    """Battles with a unit repeated to so many characters, as an answer and as a prompt."""
    text = unit * (characters // len(unit))
    return table((["Write five words."], [text], [text + "b"]), ([text], ["yes"], [None]))


@pytest.mark.parametrize("unit", UNITS)
def test_four_times_the_text_takes_about_four_times_the_work(unit, monkeypatch):
    monkeypatch.setattr("features.text.HEAD", 1_000_000)

    def seconds(characters: int) -> float:
        battles = long(unit, characters)
        # The processor's time, which other processes do not lengthen.
        start = time.process_time()
        features.extract(battles, workers=1)
        return time.process_time() - start

    seconds(1_000)
    # Quadratic is sixteen times. Linear is .05 s and .2 s: a second more than absorbs the noise.
    assert seconds(80_000) < 8 * seconds(20_000) + 1


@pytest.mark.parametrize("unit", UNITS)
def test_a_megabyte_is_finite(unit):
    assert not np.isinf(features.extract(long(unit, 1_000_000)).values).any()


def test_every_signal_says_what_it_is():
    functions = [*signals.ANSWER.values(), *signals.PROMPT.values()]
    functions += [signal.compute for signal in signals.PAIR.values()]
    for function in functions:
        assert function.__doc__, function.__name__


def test_a_new_signal_is_one_function(monkeypatch):
    monkeypatch.setattr(signals, "ANSWER", dict(signals.ANSWER))
    monkeypatch.setattr(signals, "PROMPT", dict(signals.PROMPT))
    monkeypatch.setattr(signals, "PAIR", dict(signals.PAIR))

    @signals.answer_signal
    def vowels(answer: Text, prompt: Text) -> float:
        return float(sum(answer.lower.count(v) for v in "aeiou"))

    @signals.pair_signal("anti")
    def first_letter(a: Text, b: Text, prompt: Text) -> float:
        return float((a.text > b.text) - (a.text < b.text))

    row = features.extract(table((["?"], ["Anna"], ["Ed"]))).frame().iloc[0]
    assert row["test_extract.vowels.diff"] == 1
    assert row["test_extract.vowels.sum"] == 3
    assert row["test_extract.first_letter"] == -1
    with pytest.raises(ValueError, match=r"two signals are named test_extract\.vowels"):
        signals.answer_signal(vowels)


def test_fingerprint_is_sixteen_hex_digits():
    assert len(features.FINGERPRINT) == 16
    assert int(features.FINGERPRINT, 16) >= 0


def test_a_killed_process_costs_nothing(capsys):
    texts = [[f"yes {i}, because"] for i in range(900)]
    battles = pd.DataFrame({"prompt": [["Why?"]] * 900, "response_a": texts, "response_b": texts})
    battles.insert(0, "id", range(900))
    wanted = features.extract(battles, workers=1)
    killed = []

    def kill():
        while not killed:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)
                killed.append(child.pid)
            time.sleep(0.001)

    thread = threading.Thread(target=kill)
    thread.start()
    # Two parts are begun when it happens.
    views = features.stream([battles[:300], battles[300:600], battles[600:]], 900, workers=2)
    result = np.concatenate([view.values for view in views])
    thread.join()
    assert np.array_equal(result, wanted.values, equal_nan=True)
    assert capsys.readouterr().out.count("a worker process was killed") == 1
    assert not multiprocessing.active_children()
