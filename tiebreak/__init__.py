"""Tiebreak: which of two chatbot answers will a person prefer?

from tiebreak import Tiebreak

model = Tiebreak.load("runs/sample")
model.predict_proba("What is 2+2?", "4", "22")      # P(A), P(B), P(tie)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arena.battle_rows import ReadOptions
    from common.errors import UserError
    from tiebreak.evidence import embeddings_of, signals_of
    from tiebreak.model import Tiebreak

__all__ = ["ReadOptions", "Tiebreak", "UserError", "embeddings_of", "signals_of"]

MODULES = {
    "ReadOptions": "arena.battle_rows",
    "Tiebreak": "tiebreak.model",
    "UserError": "common.errors",
    "embeddings_of": "tiebreak.evidence",
    "signals_of": "tiebreak.evidence",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the commands use modules of this package without all of it."""
    if name in MODULES:
        return getattr(import_module(MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
