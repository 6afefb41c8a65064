"""Refusal bias: does the model punish, or reward, a refusal more than people do?

Unit: from no refusal to a full one, graded by ``features.refusal``. ``meta.audit.lean`` has the
method.
"""

from __future__ import annotations

from meta.audit.context import AuditContext, Result
from meta.audit.lean import lean


def check(case: AuditContext) -> Result:
    """Compare slopes on the graded refusal, at equal length."""
    return lean(
        case,
        case.difference("refusal.refusal"),
        "full refusal",
        "look at the battles in which one answer refuses, above all where it should.",
        equal_length=True,
    )
