"""Self-promotion bias: does the model reward answers that name or praise themselves?

Unit: one doubling of (1 + mentions) in one of the three kinds. ``meta.audit.lean`` has the method.
"""

from __future__ import annotations

from meta.audit.context import AuditContext, Result
from meta.audit.lean import lean, mark_ratio


def check(case: AuditContext) -> Result:
    """Compare slopes on the difference of names, statements of identity and praise."""
    return lean(
        case,
        mark_ratio(
            case,
            "self_promotion.names_itself",
            "self_promotion.identity",
            "self_promotion.self_praise",
        ),
        "doubling of an answer's words about itself",
        "an answer could win by advertising itself; do not rank models with it before that is "
        "mended.",
        equal_length=True,
    )
