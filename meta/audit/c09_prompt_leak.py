"""Prompt leak: does the test file hold prompts or pairs of answers of the training file?

Figure: share of the test battles whose normalised prompt, or unordered pair of answers, occurs in
training (``arena.folds``). Threshold: .01. A repeated battle can gain about a nat, so a hundredth
of them moves a test score by up to .01, which is as much as one more view is worth.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from arena.folds import pair_hash, prompt_hash
from meta.audit.context import AuditContext, Result, not_applicable

THRESHOLD = 0.01


def check(case: AuditContext) -> Result:
    """Count the test battles that training has seen in part."""
    if case.test_battles is None or not len(case.test_battles):
        return not_applicable("The run has no test battles.")
    return compare(case.battles, case.test_battles)


def compare(training: pd.DataFrame, test: pd.DataFrame) -> Result:
    """The check of two canonical tables, neither of them empty."""
    prompts, pairs = (set(names) - {None} for names in zip(*_names(training), strict=True))
    found = [(prompt in prompts, pair in pairs) for prompt, pair in _names(test)]
    n = len(found)
    same_prompt, same_pair = (sum(column) for column in zip(*found, strict=True))
    leaked = sum(map(any, found))
    share = leaked / n
    meaning = (
        "Scores on this test file are better than those on new prompts: leave these battles out "
        "when you compare, or trust the cross-validated figures"
        if share > THRESHOLD
        else "Scores on this test file are scores on new prompts"
    )
    return Result(
        "fail" if share > THRESHOLD else "pass",
        f"Of {n:,} test battles {leaked:,} occur in training in part ({same_prompt:,} by their "
        f"prompt, {same_pair:,} by their pair of answers). {meaning}.",
        share,
        THRESHOLD,
    )


def _names(battles: pd.DataFrame) -> Iterator[tuple[str, str | None]]:
    """Hashes of the prompt and of the pair of answers of each battle."""
    for row in zip(battles["prompt"], battles["response_a"], battles["response_b"], strict=True):
        yield prompt_hash(*row), pair_hash(*row[1:])
