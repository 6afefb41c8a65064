"""Handcrafted signals of the biases in human votes, one file per family.

Use :func:`extract`, or :func:`stream` for battles that need not fit into memory. A new signal is
one decorated function in a family's file (see :mod:`features.signals`), a new family is one more
file of this folder: nothing else changes.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from pkgutil import iter_modules

from features.extraction import extract, stream

# A family registers its signals when it is imported; sorted, so that the columns keep their order.
for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"features.{_module}")


def _fingerprint() -> str:
    h = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        h.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for package in ("textstat", "pyphen", "py3langid"):
        h.update(f"{package} {version(package)};".encode())
    return h.hexdigest()[:16]


FINGERPRINT = _fingerprint()
"""Hash of this folder's sources and of the packages that bring word lists or models: 16 hex digits.

A view that was made under another fingerprint is out of date.
"""

__all__ = ["FINGERPRINT", "extract", "stream"]
