"""Tiebreak: which of two chatbot answers will a person prefer?

from tiebreak import Tiebreak

model = Tiebreak.load("runs/sample")
model.predict_proba("What is 2+2?", "4", "22")      # P(A), P(B), P(tie)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.errors import UserError
    from tiebreak.model import Tiebreak

__all__ = ["Tiebreak", "UserError"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: the commands use modules of this package without all of it."""
    if name == "Tiebreak":
        from tiebreak.model import Tiebreak

        return Tiebreak
    if name == "UserError":
        from common.errors import UserError

        return UserError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
