"""The registry of handcrafted signals: decorate a function in a family's file, and it is a column.

* ``@answer_signal`` on ``f(answer, prompt) -> float``: a property of one answer. It becomes two
  columns, ``family.f.diff`` (a - b, anti) and ``family.f.sum`` (a + b, sym): how far apart the
  answers are and at which level. A tree finds |a - b| in the first by itself; a column of its own
  did not lower the out-of-fold log loss on real votes.
* ``@prompt_signal`` on ``f(prompt) -> float``: one column ``family.f``, sym.
* ``@pair_signal("sym")`` or ``@pair_signal("anti")`` on ``f(a, b, prompt) -> float``: one column
  ``family.f``. What it declares is its promise: an anti signal flips its sign when the first two
  arguments change places, to the last bit; the tests hold every signal to it.

The family is the name of the function's file. Counts go through ``math.log1p``, because they are
skewed and the difference of two of them is then a log-ratio. NaN means "not defined here".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arena.feature_table import Column
from features.text import Text

AnswerFunction = Callable[[Text, Text], float]
PromptFunction = Callable[[Text], float]
PairFunction = Callable[[Text, Text, Text], float]

LIMIT = 1e6
"""Values are clipped to +-LIMIT: float32 holds them, and no signal means more beyond."""


@dataclass(frozen=True)
class PairSignal:
    """A function of both answers, with its parity."""

    compute: PairFunction
    parity: Literal["anti", "sym"]


ANSWER: dict[str, AnswerFunction] = {}
PROMPT: dict[str, PromptFunction] = {}
PAIR: dict[str, PairSignal] = {}


def _name(function: AnswerFunction | PromptFunction | PairFunction) -> str:
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
    if name in ANSWER or name in PROMPT or name in PAIR:
        raise ValueError(f"two signals are named {name}")
    return name


def answer_signal(function: AnswerFunction) -> AnswerFunction:
    """Register a property of one answer, given its prompt."""
    ANSWER[_name(function)] = function
    return function


def prompt_signal(function: PromptFunction) -> PromptFunction:
    """Register a property of the prompt."""
    PROMPT[_name(function)] = function
    return function


def pair_signal(parity: Literal["anti", "sym"]) -> Callable[[PairFunction], PairFunction]:
    """Register a property of both answers that behaves like ``parity`` when they are exchanged."""

    def register(function: PairFunction) -> PairFunction:
        PAIR[_name(function)] = PairSignal(function, parity)
        return function

    return register


def columns() -> dict[str, Column]:
    """Every column in order: answer signals, prompt signals, pair signals, as registered."""
    columns: dict[str, Column] = {}
    for name in ANSWER:
        family = name.partition(".")[0]
        columns[f"{name}.diff"] = Column("anti", family)
        columns[f"{name}.sum"] = Column("sym", family)
    for name in PROMPT:
        columns[name] = Column("sym", name.partition(".")[0])
    for name, signal in PAIR.items():
        columns[name] = Column(signal.parity, name.partition(".")[0])
    return columns


def of_answers(answers: Sequence[Text], prompts: Sequence[Text]) -> np.ndarray:
    """The answer signals of n answers, given the prompt of each; float64, shape (n, signals)."""
    return _table(len(answers), [map(compute, answers, prompts) for compute in ANSWER.values()])


def of_prompts(prompts: Sequence[Text]) -> np.ndarray:
    """The prompt signals of n prompts; float64, shape (n, signals)."""
    return _table(len(prompts), [map(compute, prompts) for compute in PROMPT.values()])


def of_pairs(a: Sequence[Text], b: Sequence[Text], prompts: Sequence[Text]) -> np.ndarray:
    """The pair signals of n battles; float64, shape (n, signals)."""
    return _table(len(a), [map(signal.compute, a, b, prompts) for signal in PAIR.values()])


def _table(n: int, signals: Sequence[Iterable[float]]) -> np.ndarray:
    # All texts for one signal, then the next signal: its code stays in the cache of the processor.
    table = np.empty((n, len(signals)))
    for column, values in enumerate(signals):
        table[:, column] = np.fromiter(values, np.float64, n)
    return table


def combine(a: np.ndarray, b: np.ndarray, prompt: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """All columns of n battles, from the values of the functions above.

    Returns:
        float32, shape (n, number of columns); no value is beyond ``LIMIT`` before answers are
        subtracted and added.
    """
    first, second, *others = (np.clip(x, -LIMIT, LIMIT) for x in (a, b, prompt, pair))
    of_both = np.stack([first - second, first + second], axis=2).reshape(len(a), -1)
    return np.concatenate([of_both, *others], axis=1, dtype=np.float32, casting="same_kind")
