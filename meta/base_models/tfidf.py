"""Words and character n-grams: a linear model of the TF-IDF difference of the answers.

Hashed (Weinberger et al. 2009, "Feature hashing for large scale multitask learning"), so that there
is no vocabulary to keep and a word of the future has its place. The side is a linear function of
a - b, the tie one of |a - b| and the prompt.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from arena.battle_texts import BattleTexts
from arena.feature_table import Column, FeatureTable
from arena.schema import TEXTS as SPEAKERS
from arena.schema import TIE, A
from common.parallel import Workers
from meta.base_models import BaseModel, Model, learned_kind, register
from meta.base_models.ngrams import BUCKETS, counts
from meta.base_models.symmetric_logistic import alternate_sides
from meta.votes import examples, shares_of

SIDE_C, TIE_C = 8.0, 2.0
"""Inverse penalties of the two questions (scikit-learn's C); docs/LOG.md."""

ROUNDS = 100

BLOCK = 4_096
"""Battles whose counts are weighted at once."""

CHUNK = 1_000
"""Texts that a process reads at once."""

DAMPED = 1 + np.log(np.maximum(np.arange(2**16), 1), dtype=np.float32)
"""1 + log of every count that 16 bits hold, float32 (65536,)."""


@register
@dataclass(frozen=True)
class Tfidf(BaseModel):
    """Hashed counts of prompt and answers.

    A model has ``idf`` (2 * BUCKETS,), the weights ``side`` (2 * BUCKETS,) and ``tie``
    (4 * BUCKETS,), all float16, and ``bias`` float32 (1,).
    """

    kind = learned_kind(
        "lexical", "words and characters as voters like them", "handcrafted", "extract.py"
    )
    battle_ids: list[str]
    counts: dict[str, sparse.csr_matrix]
    """Of each of ``SPEAKERS``, (n, 2 * BUCKETS)."""

    @property
    def ids(self) -> list[str]:
        """Battle ids, n."""
        return self.battle_ids

    @classmethod
    def of(cls, battles: BattleTexts, tables: Mapping[str, FeatureTable]) -> Tfidf:
        """Count part by part, in processes where battles are many."""
        ids: list[str] = []
        found: dict[str, list[sparse.csr_matrix]] = {s: [] for s in SPEAKERS}
        with Workers(min(os.cpu_count() or 1, len(battles) // CHUNK + 1)) as processes:
            for part in battles:
                ids += part["id"].tolist()
                starts = range(0, max(len(part), 1), CHUNK)
                texts = [part[s].iloc[i : i + CHUNK].tolist() for s in SPEAKERS for i in starts]
                counted = processes.map(counts, texts)
                for s in SPEAKERS:
                    found[s] += islice(counted, len(starts))
        return cls(ids, {s: sparse.vstack(found.pop(s), "csr") for s in SPEAKERS})

    @property
    def columns(self) -> dict[str, Column]:
        """Side log-odds, tie log-odds, and cosine of the answers."""
        return {
            "side": Column("anti", self.kind.name),
            "tie": Column("sym", self.kind.name),
            "cosine": Column("sym", self.kind.name),
        }

    def fit(self, rows: np.ndarray, votes: np.ndarray) -> Model:
        """Fit both questions by penalised maximum likelihood; idf counts all rows alike."""
        idf = self._idf(rows).astype(np.float16)
        model = {
            "idf": idf,
            "side": np.zeros(2 * BUCKETS, np.float16),
            "tie": np.zeros(4 * BUCKETS, np.float16),
        }
        shares = shares_of(votes)
        rate = (shares[:, TIE].sum() + 0.5) / (shares.sum() + 1.0)
        bias = np.log(rate / (1 - rate))
        blocks = self._weighted(SPEAKERS[1:], rows, idf)
        difference = sparse.vstack([a - b for a, b in blocks], "csr")
        examples_of, labels, weights = examples(votes)
        if weights is not None:
            difference = difference[examples_of]
        tied = labels == TIE
        decided_weights = None if weights is None else weights[~tied]
        if (~tied).sum() > 1:
            first, signs = alternate_sides(labels[~tied] == A)
            side = LogisticRegression(C=SIDE_C, fit_intercept=False, max_iter=ROUNDS)
            decided = sparse.csr_matrix(sparse.diags_array(signs) @ difference[~tied])
            model["side"] = _fitted(side, decided, first, decided_weights).astype(np.float16)
        if tied.any() and not tied.all():
            tie = LogisticRegression(C=TIE_C, max_iter=ROUNDS)
            blocks = self._weighted(SPEAKERS[:1], rows, idf)
            prompt = sparse.vstack([prompt for (prompt,) in blocks], "csr")
            np.abs(difference.data, out=difference.data)
            prompt = prompt if weights is None else prompt[examples_of]
            both = _beside(difference, prompt)
            # A copy of all texts less while the model is fitted.
            del difference, prompt
            model["tie"] = _fitted(tie, both, tied, weights).astype(np.float16)
            bias = tie.intercept_[0]
        return {**model, "bias": np.array([bias], np.float32)}

    def _weighted(
        self, speakers: Sequence[str], rows: np.ndarray, idf: np.ndarray
    ) -> Iterator[tuple[sparse.csr_matrix, ...]]:
        """Weighted counts of each speaker, in blocks of ``BLOCK`` battles."""
        for start in range(0, max(len(rows), 1), BLOCK):
            block = rows[start : start + BLOCK]
            yield tuple(_tfidf(self.counts[s][block], idf) for s in speakers)

    def _idf(self, rows: np.ndarray) -> np.ndarray:
        """Smoothed idf of all texts of these battles, float32 (2 * BUCKETS,), as scikit-learn's.

        ``TfidfTransformer`` takes all texts as one matrix, a copy of everything.
        """
        frequency = np.ones(2 * BUCKETS, np.int64)
        for s in SPEAKERS:
            frequency += np.bincount(self.counts[s][rows].indices, minlength=2 * BUCKETS)
        texts = np.float32(len(SPEAKERS) * len(rows) + 1)
        idf: np.ndarray = np.log(texts / frequency.astype(np.float32)) + np.float32(1)
        return idf

    def values(self, model: Model, rows: np.ndarray) -> np.ndarray:
        """Log-odds and cosines of these battles."""
        side_weights, tie_weights = (
            model[part].astype(np.float32, copy=False) for part in ("side", "tie")
        )
        blocks = []
        for prompt, a, b in self._weighted(SPEAKERS, rows, model["idf"]):
            difference = (a - b).tocsr()
            side = difference @ side_weights
            tie = abs(difference) @ tie_weights[: 2 * BUCKETS] + prompt @ tie_weights[2 * BUCKETS :]
            cosine = np.asarray(a.multiply(b).sum(axis=1)).ravel()
            blocks.append(np.stack([side, tie + model["bias"][0], cosine], axis=1))
        return np.concatenate(blocks).astype(np.float32)

    def take(self, rows: np.ndarray) -> Tfidf:
        """The counts of these battles."""
        positions = np.arange(len(self.ids))[rows]
        return Tfidf(
            [self.ids[i] for i in positions], {s: m[positions] for s, m in self.counts.items()}
        )


def _fitted(
    question: LogisticRegression,
    x: sparse.csr_matrix,
    answers: np.ndarray,
    weights: np.ndarray | None,
) -> np.ndarray:
    """Fit a question; its weights, float64 (d,), are 0 in columns that no row has.

    The solver keeps vectors of all its columns, so where few occur it gets only those.

    Args:
        question: what is fitted.
        x: float (n, d); its columns may be renumbered in place.
        answers: of each row, bool (n,).
        weights: of each row, float (n,), or ``None``.
    """
    occurs = np.zeros(x.shape[1], dtype=bool)
    occurs[x.indices] = True
    if not occurs.any():
        # scikit-learn fits no question without a column.
        occurs[0] = True
    # Of most columns a selection saves little.
    if occurs.mean() > 0.5:
        every: np.ndarray = question.fit(x, answers, weights).coef_[0]
        return every
    places = np.cumsum(occurs, dtype=x.indices.dtype) - 1
    # In place, for a copy of all texts less; other modes than "raise" need no buffer.
    np.take(places, x.indices, out=x.indices, mode="clip")
    parts = x.data, x.indices, x.indptr
    few = sparse.csr_matrix(parts, shape=(x.shape[0], int(occurs.sum())))
    question.fit(few, answers, weights)
    found = np.zeros(x.shape[1])
    found[occurs] = question.coef_[0]
    return found


def _tfidf(counts: sparse.csr_matrix, idf: np.ndarray) -> sparse.csr_matrix:
    """(1 + log count) * idf, words and characters each of length sqrt(1/2), (n, 2 * BUCKETS)."""
    n = counts.shape[0]
    values = DAMPED[counts.data] * idf.astype(np.float32)[counts.indices]
    of_words = counts.indices < BUCKETS
    block = np.repeat(np.arange(0, 2 * n, 2), np.diff(counts.indptr)) + of_words
    squares = np.bincount(block, weights=values**2, minlength=2 * n)
    values /= np.sqrt(2 * squares).astype(np.float32)[block]
    return sparse.csr_matrix((values, counts.indices, counts.indptr), counts.shape)


def _beside(left: sparse.csr_matrix, right: sparse.csr_matrix) -> sparse.csr_matrix:
    """The columns of both; ``sparse.hstack`` takes ten times as long."""
    shape = (left.shape[0], left.shape[1] + right.shape[1])
    wide = sparse.csr_matrix((left.data, left.indices, left.indptr), shape)
    moved = right.indices + left.shape[1]
    return wide + sparse.csr_matrix((right.data, moved, right.indptr), shape)
