"""The audit of a second stage: checks with stable codes, each a figure, a verdict and a sentence.

    findings = run(AuditContext(battles, texts, labels, rows, probabilities, design, swap_gap))

A new check is one function under ``@check("C18")`` in ``bias``, ``calibration``, ``data`` or
``sanity``, and nothing else changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from meta.audit import bias, calibration, data, sanity
from meta.audit.context import AuditContext, Finding, Result
from meta.audit.registry import CHECKS, name_of


def run(context: AuditContext) -> list[Finding]:
    """Run every check in the order of the codes; the same context gives the same findings."""
    return [_finding(code, CHECKS[code](context)) for code in sorted(CHECKS)]


def prompt_leak(training: Iterable[pd.DataFrame], test: Iterable[pd.DataFrame]) -> Finding:
    """Check C09 of a test set that came after the training.

    Args:
        training: canonical table of the valid training battles, in successive parts.
        test: likewise the test battles that are scored, at least one.
    """
    return _finding("C09", data.compare_prompts(training, test))


def failures(findings: Sequence[Finding]) -> list[str]:
    """How many checks failed, and a line for each that did."""
    failed = [f for f in findings if f.verdict == "fail"]
    return [
        f"audit: {len(findings)} check{'s' * (len(findings) > 1)}, {len(failed)} failed",
        *(f"  {f.code} {f.name}: {f.sentence}" for f in failed),
    ]


def _finding(code: str, result: Result) -> Finding:
    low, high = result.interval
    return Finding(
        code=code,
        name=name_of(code),
        verdict=result.verdict,
        figure=_finite(result.figure),
        threshold=_finite(result.threshold),
        interval=(_finite(low), _finite(high)),
        sentence=result.sentence,
    )


def _finite(value: float | None) -> float | None:
    """A float that JSON can hold."""
    return None if value is None or not math.isfinite(value) else float(value)


__all__ = [
    "CHECKS",
    "AuditContext",
    "Finding",
    "Result",
    "bias",
    "calibration",
    "data",
    "failures",
    "prompt_leak",
    "run",
    "sanity",
]
