"""From a table of battles to the view ``style``: every signal of every battle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import loky
import numpy as np
import pandas as pd

from arena.battle import Turns
from arena.progress import Progress
from arena.views import View
from features import signals
from features.text import Text

CHUNK = 250
"""Battles that a process takes at a time."""

WORTH_A_PROCESS = 1_000
"""Battles under which starting another process costs more than it saves."""

Texts = tuple[Turns, Turns, Turns]


def extract(battles: pd.DataFrame, workers: int = 0) -> View:
    """Compute the handcrafted signals of sound battles.

    The result does not depend on ``workers``, nor a battle's values on the other battles.

    Args:
        battles: canonical table of :mod:`arena.battle`, n rows; reads ``id``, ``prompt``,
            ``response_a``, ``response_b``.
        workers: processes; 0 means as many as cores, but none that has little to do; 1 means
            this process.

    Returns:
        View of shape (n, number of columns); finite, or NaN where a signal is not defined.
    """
    rows: list[Texts] = list(
        zip(battles["prompt"], battles["response_a"], battles["response_b"], strict=True)
    )
    # Rows of one prompt come together, so that a prompt and an answer are read once per chunk.
    order = sorted(range(len(rows)), key=lambda i: [turn or "" for turn in rows[i][0]])
    columns = signals.columns()
    values = np.empty((len(rows), len(columns)), dtype=np.float32)
    chunks = [order[i : i + CHUNK] for i in range(0, len(order), CHUNK)]
    jobs = ([rows[i] for i in chunk] for chunk in chunks)
    if workers == 0:
        workers = max(1, min(os.cpu_count() or 1, len(rows) // WORTH_A_PROCESS))
    with Progress("handcrafted signals", len(rows)) as progress:
        for chunk, computed in zip(chunks, _run(jobs, workers), strict=True):
            values[chunk] = computed
            progress.update(len(chunk))
    return View(battles["id"].tolist(), values, columns)


def _run(jobs: Iterator[list[Texts]], workers: int) -> Iterator[np.ndarray]:
    if workers == 1:
        yield from map(compute, jobs)
        return
    waiting = list(jobs)
    done = 0
    pool = loky.ProcessPoolExecutor(workers, initializer=_ignore_interrupts)
    try:
        for values in pool.map(compute, waiting):
            yield values
            done += 1
    except loky.BrokenProcessPool:
        print("a process was killed, perhaps for want of memory: going on with one")
        yield from map(compute, waiting[done:])
    finally:
        pool.shutdown(kill_workers=True)


def _ignore_interrupts() -> None:
    """In a worker: leave Ctrl-C to the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def compute(rows: list[Texts]) -> np.ndarray:
    """The signals of some battles; float32, shape (len(rows), number of columns)."""
    prompts: dict[tuple[str | None, ...], tuple[Text, list[float]]] = {}
    answers: dict[tuple[tuple[str | None, ...], ...], tuple[Text, list[float]]] = {}
    values: list[tuple[list[float], ...]] = []
    for prompt_turns, *both in rows:
        key = tuple(prompt_turns)
        if key not in prompts:
            prompt = Text(prompt_turns)
            prompts[key] = prompt, signals.of_prompt(prompt)
        prompt, of_prompt = prompts[key]
        pair = []
        for turns in both:
            answer_key = (key, tuple(turns))
            if answer_key not in answers:
                answer = Text(turns)
                answers[answer_key] = answer, signals.of_answer(answer, prompt)
            pair.append(answers[answer_key])
        (a, of_a), (b, of_b) = pair
        values.append((of_a, of_b, of_prompt, signals.of_pair(a, b, prompt)))
    return signals.combine(*zip(*values, strict=True))
