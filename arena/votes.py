"""Votes: who won, under the names that public files give it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from arena.cells import Cells, DamagedRowError, cell_of
from arena.schema import CLASSES, TIE, UNKNOWN, A, B
from common.errors import Code, UserError

STRENGTHS = ("overall_preference", "preference_strength")
"""Columns of HelpSteer2 and HelpSteer3: below 0 where the first answer is better, 0 for a tie."""

CLASS_NUMBERS = ("label", "better_response_id")
"""Columns in which 0, 1, 2 are A, B and a tie, as in files of predictions and in PKU-SafeRLHF."""

WINNER_COLUMNS = (
    CLASSES,
    ("winner_a", "winner_b", "winner_tie"),
    *((name,) for name in ("winner_model", "winner", "human_winner", "vote", "preference")),
    *((name,) for name in ("verdict", "choice", *CLASS_NUMBERS, *STRENGTHS)),
)
"""Sets of winner columns; a file's is the first set of which it has all columns."""

VOTE_COLUMNS = frozenset(name for names in WINNER_COLUMNS for name in names)

SIDES = ("model", "response", "answer", "assistant", "output", "completion", "chat")
"""Nouns that stand before a side's letter or number: Model A, response_1."""

WINNERS = {
    **{"a": A, "left": A, "leftvote": A, "first": A},
    **{"b": B, "right": B, "rightvote": B, "second": B},
    **{f"{noun}{side}": A for noun in SIDES for side in ("a", "1", "one")},
    **{f"{noun}{side}": B for noun in SIDES for side in ("b", "2", "two")},
    **dict.fromkeys(("tie", "tied", "tievote", "draw", "equal", "same", "neither", "both"), TIE),
    **dict.fromkeys(("bothbad", "bothbadvote", "bothgood", "bothequal", "nopreference"), TIE),
    **dict.fromkeys(("tiebothbad", "tiebothgood", "tieinconsistent", "equallygood"), TIE),
    **dict.fromkeys(("botharebad", "botharegood", "botharethesame", "botharetied"), TIE),
    **dict.fromkeys(("equallybad", "bothareequal", "aboutthesame"), TIE),
}
"""Winners by name, in lower case and letters alone: "Tie (both bad)" and both_bad are ties."""

BETTER = re.compile(
    r"(?:(?:is|are|was)?(?:slightly|somewhat|much|far|significantly|the)?"
    r"(?:better|best|winner|preferred)|wins?|won)$"
)
"""What may follow the name of a side: response_a_wins, "A is slightly better"."""

FROM_ZERO = {f"{noun}{side}": side for noun in SIDES for side in (A, B)}
"""The names of the sides in a file that counts them from 0: response_0, response_1."""

THIRD = "c"
"""A tie beside A and B, as judges' prompts have it ([[A]], [[B]], [[C]])."""

COMPARISON = re.compile(r"\W*([AB])\s*([<=>]+)\s*([AB])\W*", re.IGNORECASE)
"""Verdicts such as [[A>>B]] and A=B."""

BLANK = ("", "-1", "-1.0", "nan", "none", "null")
"""Cells of an unknown vote, in lower case."""

MOST_VALUES = 1000
"""Distinct values of a winner column that are counted; a column of more holds no votes."""

DRIFT = 0.02
"""Largest distance of a sum of shares from 1; three of two decimals are off by .015."""


class Vote(NamedTuple):
    """Who won: a label, and the shares of the three classes where voters were divided."""

    label: int
    shares: list[float] | None = None


def winner_called(text: str) -> int | None:
    """The label of a winner's name, whatever its case and punctuation; None if it is unknown."""
    compared = COMPARISON.fullmatch(text)
    if compared:
        first, sign, second = compared[1].upper(), compared[2], compared[3].upper()
        if first == second or len(set(sign)) > 1:
            return None
        if sign[0] == "=":
            return TIE
        return A if (first == "A") == (sign[0] == ">") else B
    return WINNERS.get(_letters(text))


def _letters(text: str) -> str:
    return BETTER.sub("", re.sub(r"[\W_]", "", text.lower()))


def winner_columns(source: str, columns: Sequence[str], labelled: bool) -> tuple[str, ...]:
    """The winner columns of a file, () where it has none.

    Raises:
        UserError: it has none, and is ``labelled``.
    """
    for names in WINNER_COLUMNS:
        if set(names) <= set(columns):
            return names
    if labelled:
        lacking = ", ".join(name for name in CLASSES if name not in columns)
        raise UserError(
            Code.VOTES_MISSING,
            f"{source} has no column {lacking}. Training needs {', '.join(CLASSES)}, or one column "
            f"winner (a / b / tie). The columns are: {shortened(columns)}.",
        )
    return ()


def shortened(names: Sequence[str], most: int = 20) -> str:
    """Names for a message: the first ``most``, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(str(name)[:40] for name in names[:most]) + more


class Votes:
    """How the votes of a file are read; all its values are seen first."""

    def __init__(self, names: tuple[str, ...], values: Sequence[str] | None = None) -> None:
        """Start with no rows.

        Args:
            names: one of ``WINNER_COLUMNS``, or () for no votes.
            values: what A, B and perhaps a tie are called in this file; by default public names.

        Raises:
            UserError: ``values`` are not two or three different ones.
        """
        if values and not 2 <= len(set(values)) == len(values) <= len(CLASSES):
            raise UserError(
                Code.OPTION_INVALID,
                f"Votes are called {', '.join(values)}. Give two or three different names: those "
                "of A, B and a tie.",
            )
        self.names = names
        self._told = {text.strip().lower(): label for label, text in enumerate(values or ())}
        self._values: Counter[str] = Counter()
        self._third_is_tie = self._from_zero = False
        self.numbers: dict[int, int] = {}
        """Labels of numbers."""

    def see(self, cells: Cells) -> None:
        """Count the value of one more row."""
        if len(self.names) == 1 and len(self._values) < MOST_VALUES:
            self._values[vote_text(cells.get(self.names[0]))] += 1

    def settle(self) -> str:
        """Find out what letters and numbers mean, after all rows were seen.

        Returns:
            The column's values where they are numbers that do not tell which is a tie, else "".
        """
        if len(self.names) != 1 or self._told:
            return ""
        counts = ", ".join(f"{v or 'nothing'} ({n:,})" for v, n in self._values.most_common(6))
        if self.names[0] in STRENGTHS:
            signs = [number for value in self._values if (number := _number(value)) is not None]
            # A strength of the better answer, without telling which that is.
            return counts if len(signs) > 1 and min(signs) > 0 else ""
        letters = {_letters(value) for value in self._values}
        self._third_is_tie = {"a", "b", THIRD} <= letters
        self._from_zero = any(FROM_ZERO.get(name) == 0 for name in letters)
        numbers = {number for value in self._values if (number := _number(value)) is not None}
        if not numbers or not numbers <= {-1, 0, 1, 2}:
            return ""
        if self.names[0] in CLASS_NUMBERS and 0 in numbers:
            self.numbers = {0: A, 1: B, 2: TIE}
        elif numbers in ({1, 2}, {0, 1}) and any(WINNERS.get(name) == TIE for name in letters):
            first, second = sorted(numbers)
            self.numbers = {first: A, second: B}
        else:
            return counts
        return ""

    def read(self, cells: Cells) -> Vote:
        """The vote of a row; ``DamagedRowError`` where there is none."""
        if len(self.names) > 1:
            return vote_of_three(cells, self.names)
        (name,) = self.names
        text = vote_text(cells.get(name))
        if not text:
            raise DamagedRowError(f"{name} is empty: no winner")
        if self._told:
            label = self._told.get(text.lower(), self._told.get(str(_number(text))))
        elif name in STRENGTHS:
            label = _of_strength(text)
        else:
            label = self._called(text, cells)
        if label is None:
            raise DamagedRowError(f"{name} is {text[:40]!r}, not a, b or tie")
        return Vote(label)

    def _called(self, text: str, cells: Cells) -> int | None:
        number, letters = _number(text), _letters(text)
        if number is not None:
            label = self.numbers.get(number)
        elif self._from_zero and letters in FROM_ZERO:
            label = FROM_ZERO[letters]
        else:
            label = TIE if self._third_is_tie and letters == THIRD else winner_called(text)
        models = [vote_text(cells.get(name)) for name in ("model_a", "model_b")]
        model = models.index(text) if models.count(text) == 1 else None
        if model is not None and label not in (None, model):
            raise DamagedRowError(
                f"{self.names[0]} is {text[:40]!r}, which is one side and the other side's model"
            )
        return model if label is None else label


def vote_text(cell: Any) -> str:
    """The text of a cell of votes, "" where it holds nothing."""
    return "" if cell is None or cell != cell else str(cell).strip()


def _number(text: str) -> int | None:
    return int(float(text)) if re.fullmatch(r"[+-]?\d{1,3}(\.0*)?", text) else None


def _of_strength(text: str) -> int | None:
    number = _number(text)
    if number is None or abs(number) > 3:
        return None
    return TIE if number == 0 else A if number < 0 else B


def vote_of_three(cells: Cells, names: Sequence[str]) -> Vote:
    """The vote in three columns: a single 1, or shares that sum to 1.

    Raises:
        DamagedRowError: there is none.
    """
    if not any(vote_text(cells.get(name)) for name in names):
        raise DamagedRowError(f"no winner in {', '.join(names)}")
    shares = [_share(name, cell_of(cells, name)) for name in names]
    if all(share in (0, 1) for share in shares):
        if sum(shares) != 1:
            won = ", ".join(name for name, share in zip(names, shares, strict=True) if share)
            raise DamagedRowError(
                f"two winners: {won}" if won else f"no winner in {', '.join(names)}"
            )
        return Vote(shares.index(1))
    total = sum(shares)
    if abs(total - 1) > DRIFT:
        raise DamagedRowError(f"the shares in {', '.join(names)} sum to {total:.6g}, not to 1")
    shares = [share / total for share in shares]
    return Vote(_largest(shares), shares)


def _largest(shares: Sequence[float]) -> int:
    """The class of the largest share; a tie where two share it, so that a swap changes nothing."""
    label = shares.index(max(shares))
    return label if shares.count(max(shares)) == 1 else TIE


SHARES = {"false": 0.0, "no": 0.0, "true": 1.0, "yes": 1.0}


def _share(name: str, cell: Any) -> float:
    text = str(cell).strip().lower()
    try:
        share = SHARES.get(text)
        share = float(text) if share is None else share
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise DamagedRowError(f"{name} is {str(cell)[:40]!r}, not 0 or 1")
    return share


UNVOTED = Vote(UNKNOWN)
