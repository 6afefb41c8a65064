"""Formatting bias: does the model favour headers, bold type and lists more than people do?

Unit: one doubling of (1 + marks) in one of the four kinds. ``meta.audit.lean`` has the method.
"""

from __future__ import annotations

from meta.audit.context import AuditContext, Result
from meta.audit.lean import lean, mark_ratio


def check(case: AuditContext) -> Result:
    """Compare slopes on the difference of the marks, at equal length."""
    return lean(
        case,
        mark_ratio(
            case,
            "formatting.headers",
            "formatting.bold",
            "formatting.bullets",
            "formatting.numbered",
        ),
        "doubling of headers, bold passages or list items",
        "its evidence of formatting is over-fitted; more battles or fewer columns will mend it.",
        equal_length=True,
    )
