"""What became of the rows of a file: counts, and when too many of them were set aside."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from arena.schema import CLASSES, TIE, UNKNOWN
from common.errors import Code, UserError

MOST_REJECTED = 0.1
"""Share of the rows that one rule may set aside; more are not strays but a rule that is wrong."""

MOST_OF_ONE_VALUE = 0.005
"""Share of the rows that may have one and the same vote that cannot be read."""

MOST_OF_ONE_VOTE = 0.9
"""Share of the rows of one class that may be set aside."""

STRAYS = 4
"""So few rows of a rule, value or vote are strays in a file of any size."""

MOST_OF_ALL, STRAYS_OF_ALL = 0.2, 20
"""The same of all rules together."""

MOST_REASONS = 10_000
"""Distinct reasons that are counted."""

OF_ONE_VALUE = re.compile(r" is ('.+'|\".+\"), not ")
"""Reasons that are about one value of the votes."""

NO_WINNER = re.compile(r" is empty: no winner$|^no winner in ")
"""Rules of rows whose winner columns are empty or 0."""

NAMES = ("A", "B", "tie")
NAMING = "Say what votes are called, in this order: --vote-values A,B,TIE"

UNKNOWN_VALUE = re.compile(" is ('.+'|\".+\"), not a, b or tie")

TEXTS = ("prompt", "response_a", "response_b")


def rule_of(reason: str) -> str:
    """A reason without its values: rows that one rule sets aside have it in common."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d[\d,.]*", "…", reason)


def is_unknown_vote(problem: str) -> bool:
    """Whether a problem is a vote under a name that is not known."""
    return UNKNOWN_VALUE.search(problem) is not None


def _has_text(turn: str | None) -> bool:
    return bool(turn) and not str(turn).isspace()


class Intake:
    """Counts rows, votes and reasons, part by part.

    Attributes:
        rows: number of rows.
        votes: number of valid rows by class, A, B, tie.
    """

    def __init__(self) -> None:
        """Start with no rows."""
        self.rows = 0
        self.votes = [0] * len(CLASSES)
        self._lost = [0] * len(CLASSES)
        """Number of rejected rows whose vote is known, by class."""
        self._rules: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        """By rule and by reason: where the first such row is."""
        self._prompts = self._answers = 0
        """Number of valid rows that have a prompt, and of those that have both answers."""

    @property
    def rejected(self) -> int:
        """Number of rows that cannot be used."""
        return sum(self._rules.values())

    def add(self, part: pd.DataFrame, votes: Sequence[int]) -> None:
        """Count the next rows of the canonical table; ``votes`` also where a row is rejected."""
        columns = (part[name].tolist() for name in ("row", "id", *TEXTS, "reason"))
        for row, name, prompt, a, b, reason, vote in zip(*columns, votes, strict=True):
            self.rows += 1
            if vote != UNKNOWN:
                (self._lost if reason else self.votes)[vote] += 1
            if not reason:
                self._prompts += any(map(_has_text, prompt))
                self._answers += any(map(_has_text, a)) and any(map(_has_text, b))
                continue
            rule, place = rule_of(reason), f"row {row + 1} (id {name[:40]})"
            self._rules[rule] += 1
            self._examples.setdefault(rule, f"{reason} in {place}")
            if len(self._reasons) < MOST_REASONS or reason in self._reasons:
                self._reasons[reason] += 1
                self._examples.setdefault(reason, place)

    def lines(self) -> list[str]:
        """Votes and empty prompts of the rows that can be used, and the most frequent reasons."""
        lines = []
        if any(self.votes):
            counts = ", ".join(f"{n} {v:,}" for n, v in zip(NAMES, self.votes, strict=True))
            lines.append(f"votes: {counts}")
        valid = self.rows - self.rejected
        if without := valid - self._prompts:
            lines.append(f"prompts: {without:,} are empty")
        if without := valid - self._answers:
            lines.append(f"answers: {without:,} rows have an empty one")
        for rule, count in self._rules.most_common(3):
            lines.append(f"set aside: {count:,} rows, the first: {self._examples[rule]}")
        return lines

    def check(self, source: str, columns: str, labelled: bool, most: float | None) -> None:
        """End the command where what was set aside is no stray.

        Args:
            source: the file, for the message.
            columns: names of its columns, likewise.
            labelled: whether votes are needed.
            most: share of the rows that the user lets be set aside; ``None``: the rules decide.

        Raises:
            UserError: a rule hits too many rows, all rows of one value or nearly all of one vote;
                or no row has a prompt.
        """
        problem = self._too_many() if most is None else ""
        if most is None and not problem and labelled:
            problem = self._lost_value() or self._lost_ties() or self._lost_vote()
        if most is not None and self.rejected > most * self.rows:
            problem = f"{self.rejected:,} rows are set aside"
        if problem:
            advice = f"{NAMING}, mend the file" if is_unknown_vote(problem) else "Mend the file"
            share = -(-100 * self.rejected // self.rows)
            raise UserError(
                Code.TOO_MANY_REJECTED,
                f"{source}: {problem}. {advice}, or go on without these rows by "
                f"--allow-rejects {share}%.",
            )
        valid = self.rows - self.rejected
        if valid > STRAYS and not self._prompts:
            raise UserError(
                Code.PROMPTS_EMPTY,
                f"{source} has no prompt: all {valid:,} are empty. Name their column prompt; the "
                f"columns are: {columns}.",
            )

    def _too_many(self) -> str:
        for rule, count in self._rules.most_common(1):
            if count > max(STRAYS, MOST_REJECTED * self.rows):
                return (
                    f"one rule sets aside {count:,} of {self.rows:,} rows: {self._examples[rule]}"
                )
            if self.rejected > max(STRAYS_OF_ALL, MOST_OF_ALL * self.rows):
                return (
                    f"{self.rejected:,} of {self.rows:,} rows are set aside by several rules, most "
                    f"often: {self._examples[rule]}"
                )
        return ""

    def _lost_value(self) -> str:
        for reason, count in self._reasons.most_common():
            if count <= max(STRAYS, MOST_OF_ONE_VALUE * self.rows):
                break
            if OF_ONE_VALUE.search(reason):
                return (
                    f"all {count:,} rows of one value are set aside, since {reason} "
                    f"(the first: {self._examples[reason]})"
                )
        return ""

    def _lost_ties(self) -> str:
        """Rows without a winner in a file without ties, which may be its ties."""
        for rule, count in self._rules.most_common():
            if (
                not self.votes[TIE]
                and NO_WINNER.search(rule)
                and count > max(STRAYS, MOST_OF_ONE_VALUE * self.rows)
            ):
                return (
                    f"no vote is a tie, and {count:,} rows have no winner "
                    f"({self._examples[rule]}). If they are the ties, write tie"
                )
        return ""

    def _lost_vote(self) -> str:
        for name, lost, kept in zip(NAMES, self._lost, self.votes, strict=True):
            if lost > STRAYS and lost > MOST_OF_ONE_VOTE * (lost + kept):
                rule = self._rules.most_common(1)[0][0]
                return (
                    f"{lost:,} of {lost + kept:,} rows whose vote is {name} are set aside "
                    f"(most often: {self._examples[rule]})"
                )
        return ""
