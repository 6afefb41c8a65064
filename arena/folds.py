"""Prompt groups and folds: rows of one group are always in one fold.

Rows are one group when they share the normalised prompt, the unordered pair of answers, the file's
own id or its own group, or are joined by a chain of such rows. A group is named by the smallest
hash among the prompts of its rows. The name depends on content alone, so rows that are added later
leave the fold of every group as it is, except where they join groups into one.
"""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from arena.ids import NO_NAME, name_hash
from arena.schema import Turns, digest
from common.errors import Code, UserError

SHORTEST_PAIR = 20
"""Characters of two answers together below which many prompts get that pair ("Yes." and "No")."""

LARGEST = 0.2
"""Share of all rows that a group may hold which ids alone make. Ids that are row numbers of several
files, or placeholders, join what has nothing in common."""

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
    """Groups of rows that are added in parts; 40 bytes of memory a row.

    Attributes:
        ids_repeat: after ``names``: whether two rows have one id.
        ids_join: after ``names``: whether rows of one id were joined. They are not where that makes
            a group of more than ``LARGEST`` of all rows: such ids name no question.
    """

    def __init__(self) -> None:
        """Start with no rows."""
        self._prompts, self._pairs = array("Q"), bytearray()
        self._ids, self._own = array("Q"), array("Q")
        self.ids_repeat = self.ids_join = False

    def add(self, battles: pd.DataFrame) -> None:
        """Add the next rows.

        Args:
            battles: columns prompt, response_a, response_b of the canonical table; where they are
                there, also ``file_id`` and ``group``, the file's own group ("" for none).
        """
        texts = (battles[name] for name in ("prompt", "response_a", "response_b"))
        for prompt, a, b in zip(*texts, strict=True):
            self._prompts.append(int(prompt_hash(prompt, a, b), 16))
            self._pairs += bytes.fromhex(pair_hash(a, b) or NO_PAIR)
        for name, hashes in (("file_id", self._ids), ("group", self._own)):
            names = battles[name] if name in battles else [""] * len(battles)
            hashes.extend(map(name_hash, names))

    def names(self) -> list[str]:
        """Group of each row, 16 hex digits."""
        prompts = np.array(self._prompts, dtype=np.uint64)
        pairs = np.frombuffer(bytes(self._pairs), dtype="S16")
        ids, own = (np.array(hashes, dtype=np.uint64) for hashes in (self._ids, self._own))
        # A row is linked to the first one of its prompt, of its pair, of its group, of its id.
        everywhere = np.arange(len(prompts))
        links = [_links(prompts, everywhere)]
        links += [_links(pairs, np.flatnonzero(pairs != bytes.fromhex(NO_PAIR)))]
        links += [_links(own, np.flatnonzero(own != NO_NAME))]
        component = _components(links)
        named = np.flatnonzero(ids != NO_NAME)
        self.ids_repeat = len(np.unique(ids[named])) < len(named)
        by_id = _components([*links, _links(ids, named)])
        largest = max(LARGEST * len(prompts), np.bincount(component).max(initial=0))
        self.ids_join = bool(np.bincount(by_id).max(initial=0) <= largest)
        if self.ids_join:
            component = by_id
        smallest = np.full(component.max(initial=-1) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
        np.minimum.at(smallest, component, prompts)
        return [f"{number:016x}" for number in smallest[component].tolist()]


Links = tuple[np.ndarray, np.ndarray]


def _links(values: np.ndarray, rows: np.ndarray) -> Links:
    """Links of ``rows`` to the first of them that has the same value."""
    _, first, which = np.unique(values[rows], return_index=True, return_inverse=True)
    return rows[first[which]], rows


def _components(links: Sequence[Links]) -> np.ndarray:
    """Number of the connected component of each row, int (n,); the first links are of all rows."""
    count = len(links[0][1])
    ends = tuple(np.concatenate([link[end] for link in links]) for end in (0, 1))
    graph = coo_array((np.ones(len(ends[0])), ends), shape=(count, count))
    components: np.ndarray = connected_components(graph, directed=False)[1]
    return components


def assign_groups(df: pd.DataFrame) -> pd.Series[str]:
    """Group of each battle.

    Args:
        df: as for :meth:`Groups.add`.

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
