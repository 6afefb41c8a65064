"""The votes on a run's test battles: those of a file, else those that came with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from arena.ids import shown_ids
from arena.votes_file import read_votes
from common.errors import Code, UserError
from common.run_dir import RunDir
from meta.votes import scored_votes


@dataclass(frozen=True)
class KnownVotes:
    """What is known of the votes on n test battles."""

    votes: np.ndarray
    """Labels int (n,), -1 where unknown; or shares float64 (n, 3), 0 where unknown."""
    origin: str
    """Where the votes come from, for people."""
    own: bool
    """Whether they came with the battles."""

    @property
    def known(self) -> np.ndarray:
        """The battles that have a vote, bool (n,)."""
        known = self.votes >= 0 if self.votes.ndim == 1 else self.votes.any(axis=1)
        return np.asarray(known)


def known_votes(run: RunDir, battles: pd.DataFrame, votes_file: str | None) -> KnownVotes | None:
    """The votes on test battles.

    Args:
        run: the run.
        battles: its valid test battles, canonical table, n rows.
        votes_file: a file of votes, see ``arena.votes_file.read_votes``. They are matched by
            the ids of the battles' own file; rows that share an id share its vote, unless it is a
            file of pairs, whose texts are compared. What of it is not used is printed.

    Returns:
        ``None`` where no file is given and the battles have no vote of their own.

    Raises:
        UserError: the file cannot be read, or has no vote of these battles.
    """
    if votes_file is None:
        own = KnownVotes(scored_votes(battles), "the test file", True)
        return own if own.known.any() else None
    votes = read_votes(votes_file, shown_ids(battles).tolist(), battles["key"].tolist())
    if not (votes.labels >= 0).any():
        raise UserError(
            Code.VOTES_MISSING, f"{votes_file} has no vote of any test battle of {run.folder}."
        )
    if not run.is_sample("test"):
        for note in votes.notes():
            print(note)
    return KnownVotes(votes.labels, votes_file, False)


def rows_set_aside(run: RunDir, valid: int) -> int:
    """How many rows of the test file are no valid battles."""
    return int(pq.read_metadata(run.battles("test")).num_rows) - valid
