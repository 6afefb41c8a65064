"""The audit of a second stage: numbered checks, each a figure, a verdict and a sentence.

    findings = run(AuditContext(battles, labels, rows, probabilities, design, swap_gap))

A new check is one file ``cNN_its_name.py`` in this folder with a ``check(case) -> Result``, and
nothing else changes. No number is given twice, so that reports of different days can be compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from pkgutil import iter_modules

import pandas as pd

from meta.audit import c09_prompt_leak
from meta.audit.context import AuditContext, Finding, Result

CHECK = re.compile(r"c(\d\d)_(\w+)")


def checks() -> dict[str, tuple[str, Callable[[AuditContext], Result]]]:
    """Code -> name and function of every check, by number."""
    found = {}
    for module in sorted(module.name for module in iter_modules(__path__)):
        parts = CHECK.fullmatch(module)
        if parts:
            function = import_module(f"{__name__}.{module}").check
            found[f"C{parts[1]}"] = (parts[2].replace("_", " "), function)
    return found


def run(case: AuditContext) -> list[Finding]:
    """Run every check in the order of its number; the same case gives the same findings."""
    return [_finding(code, name, check(case)) for code, (name, check) in checks().items()]


def prompt_leak(training: pd.DataFrame, test: pd.DataFrame) -> Finding:
    """Check C09 of a test set that came after the training.

    Args:
        training: canonical table of the sound training battles.
        test: canonical table of the test battles that are scored, at least one.
    """
    return _finding("C09", checks()["C09"][0], c09_prompt_leak.compare(training, test))


def failures(findings: Sequence[Finding]) -> list[str]:
    """How many checks failed, and a line of each that did."""
    failed = [f for f in findings if f.verdict == "fail"]
    return [
        f"audit: {len(findings)} check{'s' * (len(findings) > 1)}, {len(failed)} failed",
        *(f"  {f.code} {f.name}: {f.sentence}" for f in failed),
    ]


def _finding(code: str, name: str, result: Result) -> Finding:
    low, high = result.interval
    return Finding(
        code=code,
        name=name,
        verdict=result.verdict,
        figure=_finite(result.figure),
        threshold=_finite(result.threshold),
        interval=(_finite(low), _finite(high)),
        sentence=result.sentence,
    )


def _finite(value: float | None) -> float | None:
    """A float that JSON can hold."""
    return None if value is None or not math.isfinite(value) else float(value)


__all__ = ["AuditContext", "Finding", "Result", "checks", "failures", "prompt_leak", "run"]
