"""The registry: names, columns, bounds, the two columns of an answer signal."""

import math

import numpy as np
import pytest

from arena.feature_table import Column
from features import signals
from features.text import Text


def combine(*combined: list[list[float]]) -> np.ndarray:
    return signals.combine(*map(np.array, combined))


@pytest.fixture
def registry(monkeypatch):
    for name in ("ANSWER", "PROMPT", "PAIR"):
        monkeypatch.setattr(signals, name, {})
    return signals


def test_columns_in_order_with_their_parity(registry):
    @registry.pair_signal("anti")
    def longer(a: Text, b: Text, prompt: Text) -> float:
        return len(a.text) - len(b.text)

    @registry.pair_signal("sym")
    def equal(a: Text, b: Text, prompt: Text) -> float:
        return a.text == b.text

    @registry.prompt_signal
    def asked(prompt: Text) -> float:
        return len(prompt.text)

    @registry.answer_signal
    def said(answer: Text, prompt: Text) -> float:
        return len(answer.text)

    assert list(registry.columns().items()) == [
        ("test_signals.said.diff", Column("anti", "test_signals")),
        ("test_signals.said.sum", Column("sym", "test_signals")),
        ("test_signals.asked", Column("sym", "test_signals")),
        ("test_signals.longer", Column("anti", "test_signals")),
        ("test_signals.equal", Column("sym", "test_signals")),
    ]
    a, b, prompt = Text(["abc"]), Text(["a"]), Text(["ab"])
    assert registry.of_answers([a, b], [prompt, prompt]).tolist() == [[3], [1]]
    assert registry.of_prompts([prompt]).tolist() == [[2]]
    assert registry.of_pairs([a], [b], [prompt]).tolist() == [[2, 0]]


def test_a_name_is_given_once(registry):
    def twice(prompt: Text) -> float:
        return 0

    registry.prompt_signal(twice)
    for register in (registry.answer_signal, registry.prompt_signal, registry.pair_signal("sym")):
        with pytest.raises(ValueError, match=r"two signals are named test_signals\.twice"):
            register(twice)


@pytest.mark.parametrize(
    ("value", "kept"), [(1e9, 1e6), (-math.inf, -1e6), (2, 2.0), (True, 1.0), (math.nan, math.nan)]
)
def test_values_are_bounded(value, kept):
    columns = combine([[value]], [[0]], [[value]], [[value]])
    np.testing.assert_array_equal(columns, [[kept] * 4])
    assert columns.dtype == np.float32


def test_missing_stays_missing(registry):
    @registry.prompt_signal
    def signal(prompt: Text) -> float:
        return math.nan

    assert np.isnan(registry.of_prompts([Text([""])])).all()


def test_difference_and_sum():
    combined = combine([[3, 1], [0, 5]], [[1, 2], [0, 5]], [[7], [8]], [[], []])
    assert combined.tolist() == [[2, 4, -1, 3, 7], [0, 0, 0, 10, 8]]
