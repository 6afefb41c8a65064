"""From a table of battles to the view ``style``: every signal of every battle."""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import pandas as pd

from arena.feature_table import FeatureTable
from arena.schema import Turns
from common.parallel import Workers
from common.progress import Progress
from features import signals
from features.text import Text

CHUNK = 250
"""Battles of one job of a worker process."""

WORTH_A_PROCESS = 1_000
"""Battles that make another process worth its start."""

Texts = tuple[Turns, Turns, Turns]

Part = TypeVar("Part")


def extract(battles: pd.DataFrame, workers: int = 0) -> FeatureTable:
    """Compute the handcrafted signals of valid battles, silently.

    The result does not depend on ``workers``, nor a battle's values on the other battles.

    Args:
        battles: canonical table of :mod:`arena.schema`, n rows; reads ``id``, ``prompt``,
            ``response_a``, ``response_b``.
        workers: processes; 0 means one per ``WORTH_A_PROCESS`` battles, at most one per core; 1
            means this process.

    Returns:
        View of shape (n, number of columns); finite, or NaN where a signal is not defined.
    """
    (view,) = stream([battles], len(battles), workers, silent=True)
    return view


def stream(
    parts: Iterable[pd.DataFrame], rows: int, workers: int = 0, *, silent: bool = False
) -> Iterator[FeatureTable]:
    """The same view part by part; memory holds two parts, whatever their number.

    Args:
        parts: successive battles, each as for :func:`extract`.
        rows: number of battles of all parts, or an upper bound, for progress and workers.
        workers: as for :func:`extract`.
        silent: show no progress.

    Yields:
        The view of each part.
    """
    columns = signals.columns()
    if workers == 0:
        workers = max(1, min(os.cpu_count() or 1, rows // WORTH_A_PROCESS))
    progress = Progress("handcrafted signals", rows, disable=silent)
    with Workers(workers) as processes, progress:
        # The workers compute one part while the next one is read from the disk.
        for ids, chunks, results in _ahead(_begin(battles, processes) for battles in parts):
            values = np.empty((len(ids), len(columns)), dtype=np.float32)
            for chunk, computed in zip(chunks, results, strict=True):
                values[chunk] = computed
                progress.update(len(chunk))
            yield FeatureTable(ids, values, columns)


def _begin(
    battles: pd.DataFrame, processes: Workers
) -> tuple[list[str], list[list[int]], Iterator[np.ndarray]]:
    """Start computing a part: its ids, the rows of its chunks, and the results of each chunk."""
    texts: list[Texts] = list(
        zip(battles["prompt"], battles["response_a"], battles["response_b"], strict=True)
    )
    # Sorted by prompt: a prompt or answer of several battles is processed once per chunk.
    order = sorted(range(len(texts)), key=lambda i: [t or "" for t in texts[i][0]])
    chunks = [order[i : i + CHUNK] for i in range(0, len(order), CHUNK)]
    jobs = [[texts[i] for i in chunk] for chunk in chunks]
    return battles["id"].tolist(), chunks, processes.map(compute, jobs)


def _ahead(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield each part after the next one has been started."""
    waiting: deque[Part] = deque()
    for part in parts:
        waiting.append(part)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def compute(rows: list[Texts]) -> np.ndarray:
    """The signals of some battles; float32, shape (len(rows), number of columns)."""
    # There are no reference cycles here, and the collector would scan all texts again and again.
    gc.disable()
    try:
        return _compute(rows)
    finally:
        gc.enable()


def _compute(rows: list[Texts]) -> np.ndarray:
    keys = [(tuple(prompt), tuple(a), tuple(b)) for prompt, a, b in rows]
    prompts = {prompt: Text(prompt) for prompt, _, _ in keys}
    answers = {(prompt, turns): Text(turns) for prompt, *both in keys for turns in both}
    of_prompts = signals.of_prompts([*prompts.values()])
    of_answers = signals.of_answers([*answers.values()], [prompts[key] for key, _ in answers])
    of_pairs = signals.of_pairs(
        [answers[prompt, a] for prompt, a, _ in keys],
        [answers[prompt, b] for prompt, _, b in keys],
        [prompts[prompt] for prompt, _, _ in keys],
    )
    prompt_rows = {key: i for i, key in enumerate(prompts)}
    answer_rows = {key: i for i, key in enumerate(answers)}
    return signals.combine(
        of_answers[[answer_rows[prompt, a] for prompt, a, _ in keys]],
        of_answers[[answer_rows[prompt, b] for prompt, _, b in keys]],
        of_prompts[[prompt_rows[prompt] for prompt, _, _ in keys]],
        of_pairs,
    )
