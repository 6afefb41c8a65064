"""The checks by their codes. A code is never reused, so that reports of different days compare."""

from __future__ import annotations

from collections.abc import Callable

from meta.audit.context import AuditContext, Result

Check = Callable[[AuditContext], Result]

CHECKS: dict[str, Check] = {}
"""Every check by its code."""


def check(code: str) -> Callable[[Check], Check]:
    """Register a function as the check ``code``, such as C18; its name is the check's name.

    Raises:
        ValueError: the code is taken.
    """

    def register(function: Check) -> Check:
        if code in CHECKS:
            raise ValueError(f"{code} is the code of {CHECKS[code].__name__}")
        CHECKS[code] = function
        return function

    return register


def name_of(code: str) -> str:
    """The name of a check, such as ``swap gap`` of C03."""
    return CHECKS[code].__name__.replace("_", " ")
