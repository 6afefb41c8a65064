"""Read a file of battles in any public layout into the canonical table of ``arena.schema``."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pandas as pd

from arena.battle_rows import BattleRows, ReadOptions, set_aside_long_cells
from arena.files import open_source
from arena.folds import assign_groups
from arena.formats import COLUMNS as READ_COLUMNS
from arena.ids import Names
from arena.intake import NAMING, Intake, is_unknown_vote
from arena.rows import Row, Stream, is_foreign, refuse_wrong_encoding
from arena.schema import COLUMNS, UNKNOWN, digest
from arena.sources import expand
from arena.votes import Votes, shortened
from common.errors import Code, UserError
from common.parquet import GROUP

Record = tuple[Any, ...]
"""The values of a row in the order of ``arena.schema.COLUMNS``."""


MOST_SHOWN = 3
"""Reasons that a line lists."""


class BattleFile:
    """Open files of battles, as one table, whose rows have been scanned once.

    The scan finds out which cells hold lists, what votes are called and which ids are repeated.

    Attributes:
        source: what the user named, parted by blanks: files, URLs, globs, folders.
        layout: their layouts, parted by blanks.
        intake: after the last part: how many rows there are and what was set aside.
    """

    def __init__(
        self,
        streams: Sequence[tuple[str, Stream]],
        labelled: bool,
        options: ReadOptions | None = None,
        needs_id: bool = True,
        title: str = "",
    ) -> None:
        """Scan all rows.

        Args:
            streams: path or URL of each file, with its columns and rows.
            labelled: as for :func:`open_battles`.
            options: likewise.
            needs_id: whether a test file needs ids if its layout does.
            title: what messages call the files together; their names by default.

        Raises:
            UserError: the columns of a file fit no layout, there is no row, or it is not UTF-8.
        """
        self.options = options or ReadOptions()
        self._labelled = labelled
        self._sources = [BattleRows(*named, labelled, self.options) for named in streams]
        # One shard may have no tie that tells what the numbers of the others are.
        votes: dict[tuple[str, ...], Votes] = {}
        for source in self._sources:
            source.votes = votes.setdefault(source.votes.names, source.votes)
        self.source = title or " ".join(name for name, _ in streams)
        self.layout = " ".join(dict.fromkeys(source.layout.name for source in self._sources))
        for source in self._sources:
            if needs_id and source.layout.needs_prompt and source.id is None and not labelled:
                raise UserError(
                    Code.COLUMN_MISSING,
                    f"{source.name} has no column id. Add one: a submission needs it. Its columns "
                    f"are: {shortened(source.stream.columns)}.",
                )
        self._has_ids = any(source.id for source in self._sources)
        self._names = Names()
        foreign: Counter[str] = Counter()
        rows: Counter[str] = Counter()
        for _, source, row in self._rows():
            rows[source.name] += 1
            foreign[source.name] += is_foreign(row)
            source.see(row)
            self._names.add(source.id_of(row))
        if not rows:
            raise UserError(
                Code.INPUT_EMPTY, f"{self.source} has no rows. Give at least one battle."
            )
        for name, count in rows.items():
            refuse_wrong_encoding(name, foreign[name], count)
        for source in self._sources:
            source.settle()
        self._names.settle()
        self._begin()

    def parts(self) -> Iterator[pd.DataFrame]:
        """The canonical table in parts of ``GROUP`` rows.

        Its column ``group`` holds the file's own groups, "" where there is none.

        Raises:
            UserError: after the last part, where none of the rows of a training file can be used,
                or so many are set aside that it is no accident (``arena.intake``).
        """
        self._begin()
        records = (
            record
            for number, source, row in self._rows()
            for record in self._battles(number, source, row)
        )
        first_reason = ""
        while part := list(itertools.islice(records, GROUP)):
            table = _table([record for record, _ in part])
            self.intake.add(table, [label for _, label in part])
            first_reason = first_reason or table["reason"].iloc[0]
            yield table
        names = dict.fromkeys(name for rows in self._sources for name in rows.stream.columns)
        columns = shortened(list(names))
        if self._labelled and self.intake.rejected == self.intake.rows:
            advice = f" {NAMING}." if is_unknown_vote(first_reason) else ""
            raise UserError(
                Code.ALL_ROWS_DAMAGED,
                f"Every row of {self.source} is damaged; the first one: {first_reason}.{advice} "
                f"The columns are: {columns}.",
            )
        self.intake.check(self.source, columns, self._labelled, self.options.allow_rejects)

    def _begin(self) -> None:
        self.intake = Intake()
        self._unread_parts: Counter[str] = Counter()
        self._unread_votes: Counter[str] = Counter()

    def notes(self) -> list[str]:
        """What people should know of the files; after the last part."""
        lines = list(dict.fromkeys(note for source in self._sources for note in source.notes()))
        names = self._names
        if self._has_ids and (names.repeated or names.missing):
            lines.append(
                f"ids: {names.repeated:,} rows repeat an earlier one and {names.missing:,} have "
                "none; in the run they have names of their own"
            )
        lines += [f"{part} in {n:,} rows are not read" for part, n in self._unread_parts.items()]
        votes = self._unread_votes.most_common(MOST_SHOWN)
        if votes:
            shown = "; ".join(f"{reason} ({n:,})" for reason, n in votes)
            lines.append(
                f"votes: {self._unread_votes.total():,} cannot be read and count as unknown: "
                f"{shown}. --vote-values says what votes are called"
            )
        return lines

    def _rows(self) -> Iterator[tuple[int, BattleRows, Row]]:
        """Number, file and cells of each row, without cells that are too long."""
        rows = ((source, row) for source in self._sources for row in source.stream.rows)
        for number, (source, row) in enumerate(itertools.islice(rows, self.options.limit)):
            set_aside_long_cells(row)
            yield number, source, row

    def _battles(self, number: int, rows: BattleRows, row: Row) -> Iterator[tuple[Record, int]]:
        """What a row is in the canonical table, and its vote even where it is rejected."""
        name = rows.id_of(row)
        for part, read in enumerate(rows.read(row)):
            unique = self._names.unique(number, name, part)
            texts = read.battle[:3]
            label, soft_label = (UNKNOWN, None) if read.reason else read.vote
            self._unread_parts.update(read.unread_parts)
            if read.unread_vote:
                self._unread_votes[read.unread_vote] += 1
            record = (unique, number, *texts, label, soft_label, read.weight, *read.models)
            record = (*record, name, read.reason, digest(texts), read.group)
            yield record, read.vote.label


@contextmanager
def open_battles(
    sources: str | Sequence[str], *, labelled: bool, options: ReadOptions | None = None
) -> Iterator[BattleFile]:
    """Open files of battles that may be larger than memory, as one table.

    The table has one row for each data row, and for each pair of answers of a row that has several.
    A row that cannot be used keeps its place, with a ``reason``, no texts, and its id if that can
    be read. Rows of one id are several rows. A battle that occurs twice keeps both rows: they share
    ``key``, by which caches compute them once, and ``group``, so that neither is scored by a model
    that saw the other.

    A file of chosen / rejected pairs is accepted as a test file, too: its votes serve to score
    predictions on a hold-out.

    Args:
        sources: what ``arena.sources.expand`` takes: paths or URLs, globs, folders; each file in
            one of ``arena.formats.LAYOUTS``.
        labelled: whether this is a training file, in which a row without exactly one winner is
            rejected. In a test file votes are optional, and an unreadable vote is unknown.
        options: how they are read.

    Raises:
        UserError: a file cannot be opened or read.
    """
    options = options or ReadOptions()
    named = [sources] if isinstance(sources, str) else sources
    with ExitStack() as stack:
        streams, names = [], expand(named)
        for name in names:
            try:
                stream = stack.enter_context(open_source(name, READ_COLUMNS, options.limit))
                streams.append((name, stream))
            except UserError as error:
                # Spark writes a file for each part of a table, be it empty.
                if error.code != Code.INPUT_EMPTY or (name == names[-1] and not streams):
                    raise
                print(f"{name} is empty: not read", file=sys.stderr)
        yield BattleFile(streams, labelled, options, title=" ".join(named))


def read_battles(
    sources: str | Sequence[str], *, labelled: bool, options: ReadOptions | None = None
) -> pd.DataFrame:
    """Read whole files: see :func:`open_battles`.

    Returns:
        The canonical table, with all of ``arena.schema.COLUMNS``.

    Raises:
        UserError: no row can be used, or too many cannot.
    """
    with open_battles(sources, labelled=labelled, options=options) as file:
        table = pd.concat(file.parts(), ignore_index=True)
    return table.assign(group=assign_groups(table))


def rejected_rows(battles: pd.DataFrame) -> pd.DataFrame:
    """The rows that cannot be used, with the columns row, id, reason."""
    return battles.loc[battles["reason"] != "", ["row", "id", "reason"]].reset_index(drop=True)


def valid_rows(battles: pd.DataFrame) -> pd.DataFrame:
    """The rows that can be used."""
    return battles[battles["reason"] == ""].reset_index(drop=True)


def _table(records: Sequence[Record]) -> pd.DataFrame:
    """The canonical table of records."""
    columns = [list(values) for values in zip(*records, strict=True)]
    table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    return table.astype({"row": np.int64, "label": np.int8, "soft_label": object})
