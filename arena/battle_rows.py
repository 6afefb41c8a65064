"""The rows of one open file as battles: its layout, its columns, and what its cells are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from arena.cells import DamagedRowError
from arena.formats import (
    CONVERSATIONS,
    GROUP_COLUMN,
    INPUT,
    TURN,
    WEIGHT,
    AnswerNames,
    Battle,
    Layout,
    each_pair,
    layout_of,
    prompt_columns,
)
from arena.ids import ID_COLUMNS, id_text, is_plain
from arena.messages import unread_parts
from arena.rows import Row, Stream, is_encodable
from arena.schema import UNKNOWN, Turns
from arena.structures import Structures
from arena.votes import BLANK, UNVOTED, Vote, Votes, shortened, winner_columns
from common.errors import Code, UserError

LONGEST = 2_000_000
"""Most characters of one cell; the longest answer of LMSYS train.csv has 53 thousand."""

NOT_GIVEN = ("", "na", "n/a", "nan", "none", "null", "\\n", "<na>")
"""Cells of groups and weights that hold nothing, in lower case: of R, pandas and Hive."""

SURROGATE = re.compile("[\ud800-\udfff]")
NO_BATTLE = Battle([], [], [])
SIDES = ("A", "B", "a tie")
MODELS = ("model_a", "model_b")


@dataclass(frozen=True)
class ReadOptions:
    """How files are read.

    Attributes:
        limit: only the first so many rows of all files together; ``None``: all.
        vote_values: what A, B and perhaps a tie are called; by default public names.
        allow_rejects: share of the rows that may be set aside; ``None``: none but strays.
    """

    limit: int | None = None
    vote_values: tuple[str, ...] | None = None
    allow_rejects: float | None = None


class ReadRow(NamedTuple):
    """What one row says; ``reason`` is why it cannot be used, "" where it can."""

    battle: Battle
    vote: Vote
    """``UNVOTED`` where there is none; known where the row cannot be used, if it can be read."""
    weight: float
    models: tuple[str, ...]
    group: str
    reason: str
    unread_parts: frozenset[str] = frozenset()
    unread_vote: str = ""
    """In a test file: why its vote is not known, "" where it has none."""


class BattleRows:
    """One open file: its layout, its columns, and what its cells are."""

    def __init__(self, name: str, stream: Stream, labelled: bool, options: ReadOptions) -> None:
        """Find the layout of a file; its rows are not read yet.

        Raises:
            UserError: its columns fit no layout, or a training file has no votes.
        """
        self.name, self.stream, self._labelled = name, stream, labelled
        columns = stream.columns
        self.layout, self.answers = layout_of(name, columns)
        winners = winner_columns(name, columns, labelled) if self.layout.voted else ()
        self.votes = Votes(winners, options.vote_values)
        self.id = next((column for column in ID_COLUMNS if column in columns), None)
        self.texts = [*self.answers, *prompt_columns(columns)]
        self.structures = Structures(column for column in self.texts if column != INPUT)
        used = {*self.texts, *winners, self.id, *MODELS, GROUP_COLUMN, WEIGHT, TURN}
        self.unread = [name for name in columns if name not in used and name.strip()]

    def see(self, row: Row) -> None:
        """Count the cells of one more row."""
        self.structures.see(row.cells)
        self.votes.see(row.cells)

    def settle(self) -> None:
        """Decide what cells are, after all rows were seen.

        Raises:
            UserError: the votes of a training file are numbers of unknown meaning.
        """
        self.structures.settle()
        unclear = self.votes.settle()
        if unclear and self._labelled:
            raise UserError(
                Code.VOTES_AMBIGUOUS,
                f"{self.name} has numbers in the column {self.votes.names[0]}: {unclear}. Which "
                "are A, B and a tie? Add --vote-values 0,1,2 or --vote-values 1,2,0; where "
                "there is no tie, --vote-values 1,2.",
            )

    def id_of(self, row: Row) -> str:
        """The id of a row, "" where it has none that can stand in a CSV."""
        name = self._id_text(row)
        return name if is_plain(name) else ""

    def _id_text(self, row: Row) -> str:
        return id_text(_text(row.cells.get(self.id))) if self.id else ""

    def read(self, row: Row) -> Iterator[ReadRow]:
        """What a row says: one battle, or one for each pair of its answers."""
        for name in self.texts:
            number = isinstance(row.cells.get(name), int | float)
            if number and self.answers not in CONVERSATIONS:
                row.cells[name] = id_text(row.cells[name])
        self.structures.decode(row.cells)
        cells = each_pair(row.cells, self.answers) if self.layout.several else [row.cells]
        for of_pair in cells:
            yield self._read(Row(of_pair, row.damage))

    def _read(self, row: Row) -> ReadRow:
        models = tuple(_text(row.cells.get(name)) for name in MODELS)
        group = id_text(_text(row.cells.get(GROUP_COLUMN)))
        group = "" if group.strip().lower() in NOT_GIVEN else group
        try:
            if not row.damage and not is_plain(self._id_text(row)):
                raise DamagedRowError(f"{self.id} is too long, a formula or not one line")
            battle = battle_of_row(self.layout, self.answers, row)
            vote = self._vote(row, battle)
            weight = _weight(row.cells.get(WEIGHT))
        except DamagedRowError as damage:
            return ReadRow(NO_BATTLE, self._known_vote(row), 1.0, models, group, str(damage))
        unread = [unread_parts(row.cells.get(name)) for name in self.texts]
        unread_vote = self._unread_vote(row) if vote.label == UNKNOWN else ""
        parts = frozenset().union(*unread)
        return ReadRow(battle, vote, weight, models, group, "", parts, unread_vote)

    def _vote(self, row: Row, battle: Battle) -> Vote:
        """The vote of a row; ``DamagedRowError`` where it is needed and there is none."""
        if not self.layout.voted:
            vote = Vote(battle.label)
        elif self._labelled:
            vote = self.votes.read(row.cells)
        else:
            vote = self._known_vote(row)
        if self._labelled and vote.label == UNKNOWN:
            raise DamagedRowError("no winner")
        return vote

    def _known_vote(self, row: Row) -> Vote:
        """The vote in the winner columns, ``UNVOTED`` where none can be read."""
        try:
            return self.votes.read(row.cells) if self.votes.names else UNVOTED
        except DamagedRowError:
            return UNVOTED

    def _unread_vote(self, row: Row) -> str:
        """Why the vote of a row cannot be read; "" where its winner columns are empty or 0."""
        cells = {_text(row.cells.get(name)).strip().lower() for name in self.votes.names}
        if cells <= set(BLANK if len(self.votes.names) == 1 else (*BLANK, "0", "0.0", "false")):
            return ""
        try:
            self.votes.read(row.cells)
        except DamagedRowError as damage:
            return str(damage)
        return ""

    def notes(self) -> list[str]:
        """What people should know of the columns."""
        lines = []
        used = [name for name in (GROUP_COLUMN, WEIGHT) if name in self.stream.columns]
        if used:
            lines.append(f"{' and '.join(used)} of the file: used")
        if numbers := self.votes.numbers:
            means = ", ".join(f"{n} is {SIDES[label]}" for n, label in sorted(numbers.items()))
            lines.append(f"{self.votes.names[0]}: {means}; --vote-values says otherwise")
        if self.unread:
            lines.append(f"columns that are not read: {shortened(self.unread)}")
        for column, (lists, texts) in self.structures.mixed.items():
            lines.append(
                f"{column}: {lists:,} cells are lists of turns and {texts:,} plain texts; each is "
                "read as what it is"
            )
        return lines


def set_aside_long_cells(row: Row) -> None:
    """Drop texts over ``LONGEST`` characters before anything spends time on decoding them."""
    for name, cell in list(row.cells.items()):
        if isinstance(cell, str) and len(cell) > LONGEST:
            row.damage = row.damage or _too_long(name, len(cell))
            del row.cells[name]


def _too_long(name: str, size: int) -> str:
    return f"{name} has {size:,} characters, more than {LONGEST:,}"


def battle_of_row(layout: Layout, names: AnswerNames, row: Row) -> Battle:
    """The battle of a row whose cells are decoded, ``names`` being the columns of its answers.

    Raises:
        DamagedRowError: the row cannot be used.
    """
    if row.damage:
        raise DamagedRowError(row.damage)
    battle = layout.read(row.cells, names)
    for name, turns in zip(("prompt", *names), battle[:3], strict=True):
        size = sum(len(turn or "") for turn in turns)
        if size > LONGEST:
            raise DamagedRowError(_too_long(name, size))
    if not any(turn for turns in battle[:3] for turn in turns):
        raise DamagedRowError("prompt and answers are empty")
    prompt, response_a, response_b = (_clean(turns) for turns in battle[:3])
    return Battle(prompt, response_a, response_b, battle.label)


def _weight(cell: Any) -> float:
    """The weight of a vote; 1 where the cell is empty."""
    if str(cell).strip().lower() in NOT_GIVEN:
        return 1.0
    try:
        weight = float(cell)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise DamagedRowError(f"weight is {str(cell)[:40]!r}, not a number from 0 on")
    return weight


def _clean(turns: Turns) -> list[str | None]:
    """Turns with U+FFFD for lone surrogates, which neither UTF-8 nor parquet can encode."""
    return [turn if turn is None else _text(turn) for turn in turns]


def _text(cell: Any) -> str:
    """A cell as text, "" where there is none."""
    text = "" if cell is None else str(cell)
    return text if is_encodable(text) else SURROGATE.sub("\ufffd", text)
