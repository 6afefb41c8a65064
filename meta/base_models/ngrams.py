"""Hashed counts of words and character n-grams.

A file of its own with few imports: the processes that count load nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer

from arena.schema import Turns

BUCKETS = 2**17
"""Of words and pairs of words, and as many of character 4-grams."""

WORD_OR_SIGN = r"(?u)\b\w+\b|[^\w\s]"

LONGEST = 20_000
"""Characters of a text that are read."""


def counts(texts: Sequence[Turns]) -> sparse.csr_matrix:
    """Hashed counts uint16 (n, 2 * BUCKETS): words and their pairs, then character 4-grams."""
    joined = [
        "\n".join(turn or "" for turn in turns)[:LONGEST].encode("utf-8", "replace").decode()
        for turns in texts
    ]
    how = {"n_features": BUCKETS, "alternate_sign": False, "norm": None, "dtype": np.float32}
    words = HashingVectorizer(ngram_range=(1, 2), token_pattern=WORD_OR_SIGN, **how)
    grams = HashingVectorizer(analyzer="char_wb", ngram_range=(4, 4), **how)
    both = sparse.hstack([words.transform(joined), grams.transform(joined)], format="csr")
    # A text has at most 2 * LONGEST words and pairs.
    return both.astype(np.uint16)
