"""Prompt groups and folds: rows of one group are always in one fold.

Rows are one group when they share the normalised prompt, or the unordered pair of answers, or are
joined by a chain of such rows. A group is named by the smallest hash among the prompts of its rows.
The name depends on content alone, so rows that are added later leave the fold of every group as it
is, except where they join groups into one.
"""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from arena.schema import Turns, digest
from common.errors import Code, UserError

SHORTEST_PAIR = 20
"""Characters of two answers together below which many prompts get that pair ("Yes." and "No")."""

NO_PAIR = "0" * 32
"""Stands for a pair of answers that does not identify its row."""

THRIFTY_FOLDS = 5
"""A language model that is fine-tuned only once leaves out one fold of so many."""


def normalise(turns: Turns) -> str:
    """The prompt as compared, "" where it has no text.

    All turns joined, NFKC and case-folded (so that width, ligatures and case do not count), every
    run of white space as one blank, punctuation at both ends gone. Punctuation inside stays, or
    "3 + 4" and "3 - 4" would be one prompt. A prompt of nothing but punctuation stays as it is.
    """
    text = unicodedata.normalize("NFKC", "\n".join(turn or "" for turn in turns)).casefold()
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    start, end = 0, len(text)
    while start < end and _is_edge(text[start]):
        start += 1
    while start < end and _is_edge(text[end - 1]):
        end -= 1
    return text[start:end] or text


def _is_edge(character: str) -> bool:
    return character == " " or unicodedata.category(character).startswith("P")


def prompt_hash(prompt: Turns, a: Turns, b: Turns) -> str:
    """Hash of the normalised prompt, 16 hex digits.

    Where the prompt is empty it is the hash of the unordered answers: files of pairs without a
    prompt would be one group otherwise.
    """
    text = normalise(prompt) or "\0".join(sorted((digest([a]), digest([b]))))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def pair_hash(a: Turns, b: Turns) -> str | None:
    """Hash of the unordered pair of answers, ``None`` for a pair that does not identify its row.

    Two equal answers do not (two times "" or the same canned refusal: no side to remember), and
    neither do answers under ``SHORTEST_PAIR``. Linked, they would join unrelated prompts.
    """
    if list(a) == list(b) or sum(len(turn or "") for turn in (*a, *b)) < SHORTEST_PAIR:
        return None
    return "".join(sorted((digest([a]), digest([b]))))


class Groups:
    """Groups of rows that are added in parts; 24 bytes of memory a row."""

    def __init__(self) -> None:
        """Start with no rows."""
        self._prompts, self._pairs = array("Q"), bytearray()

    def add(self, battles: pd.DataFrame) -> None:
        """Add the next rows; their columns prompt, response_a, response_b are read."""
        texts = (battles[name] for name in ("prompt", "response_a", "response_b"))
        for prompt, a, b in zip(*texts, strict=True):
            self._prompts.append(int(prompt_hash(prompt, a, b), 16))
            self._pairs += bytes.fromhex(pair_hash(a, b) or NO_PAIR)

    def names(self) -> list[str]:
        """Group of each row, 16 hex digits."""
        prompts = np.array(self._prompts, dtype=np.uint64)
        pairs = np.frombuffer(bytes(self._pairs), dtype="S16")
        paired = np.flatnonzero(pairs != bytes.fromhex(NO_PAIR))
        # A row is linked to the first one of its prompt, and to the first one of its pair.
        firsts = [_firsts(prompts), paired[_firsts(pairs[paired])]]
        ends = np.concatenate(firsts), np.concatenate([np.arange(len(prompts)), paired])
        graph = coo_array((np.ones(len(ends[0])), ends), shape=(len(prompts), len(prompts)))
        count, component = connected_components(graph, directed=False)
        smallest = np.full(count, np.iinfo(np.uint64).max, dtype=np.uint64)
        np.minimum.at(smallest, component, prompts)
        return [f"{number:016x}" for number in smallest[component].tolist()]


def _firsts(values: np.ndarray) -> np.ndarray:
    """Of each value, the position of its first occurrence."""
    _, first, which = np.unique(values, return_index=True, return_inverse=True)
    positions: np.ndarray = first[which]
    return positions


def assign_groups(df: pd.DataFrame) -> pd.Series[str]:
    """Group of each battle.

    Args:
        df: the canonical table, or at least its columns prompt, response_a, response_b.

    Returns:
        16 hex digits per row, in the table's index.
    """
    groups = Groups()
    groups.add(df)
    return pd.Series(groups.names(), index=df.index, dtype="str")


def fold_of(groups: Iterable[str], folds: int) -> np.ndarray:
    """Fold of each group: its name as a number modulo ``folds``, so no seed is needed.

    Args:
        groups: names of groups, hex digits; shape (n,).
        folds: number of folds, at least 1.

    Returns:
        int64 in [0, folds), shape (n,).
    """
    return np.array([int(group, 16) % folds for group in groups], dtype=np.int64)


def held_out(groups: Iterable[str], folds: int) -> list[np.ndarray]:
    """The rows that each of ``folds`` judges leaves out, bool (n,), one array a judge.

    Args:
        groups: group of each battle, n.
        folds: number of judges; a single one leaves out fold 0 of ``THRIFTY_FOLDS``.

    Raises:
        UserError: a judge has nothing to learn from.
    """
    fold = fold_of(groups, THRIFTY_FOLDS if folds == 1 else folds)
    left_out = [fold == k for k in range(folds)]
    for k, out in enumerate(left_out):
        if out.all():
            raise UserError(
                Code.NO_TRAINING_BATTLES,
                f"Fold {k} of {folds} holds all {len(out)} battles, so none are left to train on. "
                "Give more battles, of other prompts.",
            )
    return left_out
