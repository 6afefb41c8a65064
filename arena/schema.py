"""The battle: a prompt, two answers, and who won. One place for its names and its class order.

A table of battles is a ``pandas.DataFrame`` with one row per row of the user's file, in the file's
order, and the columns of ``COLUMNS``:

=============  ==================  ==============================================================
column         dtype               meaning
=============  ==================  ==============================================================
``id``         str                 the row's name, unique: its ``file_id``, or one that is made up
``row``        int64               0-based data row in the file
``prompt``     list[str | None]    one entry per turn; ``None`` is a JSON ``null`` turn
``response_a`` list[str | None]    answer of model A, one entry per turn
``response_b`` list[str | None]    answer of model B, one entry per turn
``label``      int8                0 A won, 1 B won, 2 tie, -1 unknown; the largest soft label
``soft_label`` list[float] | None  shares of A, B and tie where the file has them, sum 1
``weight``     float64             how much the vote counts in training; 1 where the file is silent
``model_a``    str                 name of model A, "" if unknown; never a feature
``model_b``    str                 name of model B, "" if unknown; never a feature
``file_id``    str                 the file's id as text, "" where it has none; may repeat
``reason``     str                 "" for a valid row, else why the row is rejected
``key``        str                 content hash of prompt and both answers (16 hex digits)
``group``      str                 rows of one group never part between folds (16 hex digits)
=============  ==================  ==============================================================

A rejected row keeps its place (and gets the prior in a submission); its texts may be empty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

CLASSES = ("winner_model_a", "winner_model_b", "winner_tie")
"""Class order of every probability triple, label and submission column in this project."""

A, B, TIE, UNKNOWN = 0, 1, 2, -1

COLUMNS = (
    "id",
    "row",
    "prompt",
    "response_a",
    "response_b",
    "label",
    "soft_label",
    "weight",
    "model_a",
    "model_b",
    "file_id",
    "reason",
    "key",
    "group",
)

TEXTS = ("prompt", "response_a", "response_b")
"""The columns that hold texts."""

SEED = 20_241

Turns = Sequence[str | None]
"""The turns of one speaker; ``None`` is a JSON ``null``, kept apart from an empty string."""


def digest(parts: Iterable[Turns]) -> str:
    """Hash lists of turns to 16 hex digits; unambiguous about turn borders and ``None``."""
    h = hashlib.sha256()
    for turns in parts:
        h.update(b"L%d;" % len(turns))
        for turn in turns:
            if turn is None:
                h.update(b"N;")
            else:
                data = turn.encode("utf-8", "surrogatepass")
                h.update(b"S%d;" % len(data))
                h.update(data)
    return h.hexdigest()[:16]
