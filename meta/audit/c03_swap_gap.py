"""Swap gap: exchanging the answers must exchange P(A) and P(B), and leave P(tie).

The figure is the larger of two gaps: of all scored battles with the columns exchanged by their
declared parities, and of some battles with the texts exchanged and the handcrafted signals computed
again (``meta.audit.exchange``), in which a wrong parity shows. Threshold: 1e-6, far above what
adding floating point numbers in another order can do (1e-12) and far below what any figure shows.
"""

from __future__ import annotations

from meta.audit.context import AuditContext, Result

THRESHOLD = 1e-6


def check(case: AuditContext) -> Result:
    """Hold the gap that was measured against the threshold."""
    fails = not case.swap_gap <= THRESHOLD
    meaning = (
        "A handcrafted signal's declared parity is wrong: correct it. Or the signals were computed "
        "by other code: run extract.py again."
        if fails
        else "The forecast does not depend on which answer stands first."
    )
    return Result(
        "fail" if fails else "pass",
        f"Exchanging the answers moves a probability by at most {case.swap_gap:.1e}. {meaning}",
        case.swap_gap,
        THRESHOLD,
    )
