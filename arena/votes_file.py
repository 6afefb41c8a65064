"""Read a file of votes on battles, or of pairs; every row that is used is checked.

A file (any format that ``arena.files`` reads, local or a URL) has a column of ids and

  votes           label, winner_model or winner: 0 / 1 / 2, or a / b / tie under any public name; or
                  a single 1 among winner_model_a, winner_model_b, winner_tie; blank or -1 where it
                  is not known

or chosen / rejected pairs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from arena.ids import id_text, shown_ids
from arena.keyed_rows import KeyedRows
from arena.prediction_columns import VOTES, vote_columns, wanted_columns
from arena.reader import read_battles
from arena.schema import UNKNOWN, digest
from arena.swap import SWAP
from arena.votes import CLASS_NUMBERS
from common.errors import Code, UserError

WORDS = "Write them as a, b and tie."


@dataclass(frozen=True)
class FileVotes:
    """Votes on battles, and what of their file could not be used."""

    source: str
    """Path or URL of the file."""
    labels: np.ndarray
    """int64 (n,), -1 where unknown."""
    unvoted: list[str]
    """Ids of the battles without a vote."""
    unmatched: list[str]
    """Ids of the file's rows that are of none of these battles."""
    rows: int
    """Number of rows of the file."""

    def notes(self) -> list[str]:
        """What was not scored, a line each; [] where every battle has a vote, and every row one."""
        lines = []
        if self.unvoted:
            lines.append(
                f"not scored: {len(self.unvoted):,} of {len(self.labels):,} battles have no vote "
                f"in {self.source}, id {self.unvoted[0]} among them"
            )
        if self.unmatched:
            lines.append(
                f"not used: {len(self.unmatched):,} of {self.rows:,} rows of {self.source} are of "
                f"no battle here, id {self.unmatched[0]} among them"
            )
        return lines


def read_votes(source: str, ids: Sequence[str], keys: Sequence[str] = ()) -> FileVotes:
    """Read the votes on these battles.

    Args:
        source: local path or any URL that fsspec opens.
        ids: battle ids, n; rows of other battles are counted only. Several rows of one battle must
            agree.
        keys: hashes of their texts as in the canonical table, n, by which the rows of a file of
            pairs are matched, too: it does not say which answer is A. () where they are unknown.

    Raises:
        UserError: no column has votes, a row is damaged, two votes on a battle disagree, or a vote
            is invalid.
    """
    file = KeyedRows(source, wanted_columns(None))
    columns = vote_columns(file)
    names = list(map(id_text, ids))
    if columns:
        file.refuse_unclear_numbers(columns, WORDS, ordered=CLASS_NUMBERS)
        labels = _votes_by_id(file, columns, set(names))
        found = [labels.get(name, UNKNOWN) for name in names]
    else:
        by_key = _votes_of_pairs(file)
        labels = {name: label for (name, _), label in by_key.items()}
        sought = zip(names, keys or [""] * len(names), strict=True)
        found = [by_key.get(battle, UNKNOWN) for battle in sought]
    votes = np.array(found, dtype=np.int64)
    return FileVotes(
        source,
        votes,
        [name for name, vote in zip(names, votes, strict=True) if vote == UNKNOWN],
        [name for name in file.ids if name not in labels],
        len(file.rows),
    )


def _votes_of_pairs(file: KeyedRows) -> dict[tuple[str, str], int]:
    """The labels of a file of pairs, by id and texts in both orders, and by id alone (text "").

    Raises:
        UserError: it is none.
    """
    try:
        battles = read_battles(file.source, labelled=False)
    except UserError as error:
        raise UserError(Code.VOTES_MISSING, f"{file.source} has no votes. Add {VOTES}.") from error
    labels: dict[tuple[str, str], int] = {}
    texts = (battles[name] for name in ("prompt", "response_a", "response_b"))
    for name, label, *turns in zip(shown_ids(battles), battles["label"], *texts, strict=True):
        prompt, a, b = turns
        labels[name, digest([prompt, b, a])] = int(SWAP[label]) if label != UNKNOWN else UNKNOWN
        labels[name, digest([prompt, a, b])] = int(label)
        alone = labels.setdefault((name, ""), int(label))
        labels[name, ""] = alone if alone == label else UNKNOWN
    if set(labels.values()) <= {UNKNOWN}:
        raise UserError(Code.VOTES_MISSING, f"{file.source} has no votes. Add {VOTES}.")
    return labels


def _votes_by_id(
    file: KeyedRows, columns: list[Sequence[str]], ids: Collection[str]
) -> dict[str, int]:
    """The label of each of these battles that the file has.

    Raises:
        UserError: a vote is invalid, or two rows of one battle have different votes.
    """
    labels: dict[str, int] = {}
    for i, name in enumerate(file.ids):
        if name not in ids:
            continue
        label = file.label(i, columns)
        if labels.setdefault(name, label) == UNKNOWN:
            labels[name] = label
        if label not in (UNKNOWN, labels[name]):
            raise UserError(
                Code.ID_REPEATED,
                f"{file.where(i)}: row {file.place[name] + 1} has the same id and another vote. "
                "Delete one of them.",
            )
    return labels
