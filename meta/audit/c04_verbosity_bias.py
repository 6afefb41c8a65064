"""Verbosity bias: does the model favour the longer answer more than people do?

Unit: one doubling of the length ratio, in characters. ``meta.audit.lean`` has the method.
"""

from __future__ import annotations

from meta.audit.context import AuditContext, Result
from meta.audit.lean import lean, length_ratio


def check(case: AuditContext) -> Result:
    """Compare slopes on the length ratio."""
    return lean(
        case,
        length_ratio(case),
        "doubling of A's length against B's",
        "train longer or regularise less, and look at the slices by length gap.",
        equal_length=False,
    )
