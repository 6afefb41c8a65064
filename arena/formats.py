"""The public layouts of battles; a new one is one reader function and one line in ``LAYOUTS``.

A reader function takes the cells of one row, in which cells of JSON are decoded already
(:class:`JsonColumns`), and returns a :class:`Battle` or raises :class:`DamagedRowError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from arena.schema import CLASSES, TIE, UNKNOWN, A, B, digest
from common.errors import Code, UserError

Cells = Mapping[str, Any]


class DamagedRowError(Exception):
    """This row cannot be used; the message is the reason that goes to rejected.csv."""


class Damaged(str):
    """A cell that could not be decoded: the reason, in the cell's place."""


class Battle(NamedTuple):
    """The texts of one row, and its winner where the texts tell it."""

    prompt: list[str | None]
    response_a: list[str | None]
    response_b: list[str | None]
    label: int = UNKNOWN


class Message(NamedTuple):
    """One message of a conversation."""

    role: str
    text: str | None


def json_list(cell: str) -> list[Any] | Damaged:
    """Decode a JSON list of strings, nulls and objects; or tell why the cell is none."""
    try:
        items = json.loads(cell)
    except (ValueError, RecursionError):
        return Damaged("is not JSON")
    if not isinstance(items, list):
        return Damaged("is not a list")
    if not all(item is None or isinstance(item, str | dict) for item in items):
        return Damaged("is not a list of texts")
    return items


class JsonColumns:
    """Recognises the columns of JSON lists: those in which at least half of the texts are one.

    In such a column an empty cell is missing, and a text that is not a JSON list is damaged. In
    every other column each text is one literal turn, whatever it looks like.
    """

    def __init__(self, columns: Iterable[str]) -> None:
        """Start with no rows; ``columns`` are the candidates."""
        self._lists = dict.fromkeys(columns, 0)
        """Number of cells that are JSON lists minus the number of other texts, by column."""
        self._filled: set[str] = set()

    def see(self, cells: Cells) -> None:
        """Count the texts of one more row."""
        for name in self._lists:
            cell = cells.get(name)
            if isinstance(cell, str) and cell:
                self._filled.add(name)
                self._lists[name] += -1 if isinstance(json_list(cell), Damaged) else 1

    def decode(self, cells: dict[str, Any]) -> None:
        """Decode the cells of a row in place, after all rows were counted."""
        for name in self._filled:
            cell = cells.get(name)
            if self._lists[name] >= 0 and isinstance(cell, str):
                cells[name] = json_list(cell) if cell else None


def cell_of(cells: Cells, name: str) -> Any:
    """The cell of a column that the layout needs; ``DamagedRowError`` where it is missing."""
    cell = cells.get(name)
    if cell is None:
        raise DamagedRowError(f"{name} is missing")
    if isinstance(cell, Damaged):
        raise DamagedRowError(f"{name} {cell}")
    return cell


LMSYS_TEXTS = ("prompt", "response_a", "response_b")


def read_turns(cells: Cells) -> Battle:
    """LMSYS: ``prompt``, ``response_a``, ``response_b`` are lists of turns, or one plain text."""
    prompt, a, b = (_turns(name, cell_of(cells, name)) for name in LMSYS_TEXTS)
    if not len(prompt) == len(a) == len(b):
        raise DamagedRowError(
            f"turn counts differ: prompt {len(prompt)}, response_a {len(a)}, response_b {len(b)}"
        )
    return Battle(prompt, a, b)


def _turns(name: str, cell: Any) -> list[str | None]:
    if isinstance(cell, str):
        return [cell]
    if not isinstance(cell, list):
        raise DamagedRowError(f"{name} is not a list")
    if not all(turn is None or isinstance(turn, str) for turn in cell):
        raise DamagedRowError(f"{name} is not a list of texts")
    if not cell:
        raise DamagedRowError(f"{name} has no turn")
    return cell


def read_conversations(cells: Cells) -> Battle:
    """Arena releases: ``conversation_a`` and ``conversation_b`` are lists of messages."""
    prompt, a = rounds("conversation_a", messages("conversation_a", cells))
    other, b = rounds("conversation_b", messages("conversation_b", cells))
    if prompt != other:
        raise DamagedRowError("conversation_a and conversation_b have different user turns")
    return Battle(prompt, a, b)


def messages(name: str, cells: Cells) -> list[Message]:
    """The messages of a cell: {role, content} each, content being text or parts of text."""
    cell = cell_of(cells, name)
    if not isinstance(cell, list):
        raise DamagedRowError(f"{name} is not a list of messages")
    for item in cell:
        if not isinstance(item, dict) or not {"role", "content"} <= set(item):
            raise DamagedRowError(f"{name} holds an item without role and content")
    return [Message(item["role"], _text(name, item["content"])) for item in cell]


def _text(name: str, content: Any) -> str | None:
    """Text of a message; of parts, those of text, since no image can be read here."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise DamagedRowError(f"{name} has a message that is not text")
    texts = [part.get("text") for part in content]
    return "\n".join(text for text in texts if isinstance(text, str))


def rounds(name: str, dialogue: Sequence[Message]) -> tuple[list[str | None], list[str | None]]:
    """User turns and assistant turns; text of the system goes before the first user turn."""
    system = [message.text or "" for message in dialogue if message.role == "system"]
    turns = [message for message in dialogue if message.role != "system"]
    questions, answers = turns[0::2], turns[1::2]
    if (
        not turns
        or len(questions) != len(answers)
        or any(message.role != "user" for message in questions)
        or any(message.role != "assistant" for message in answers)
    ):
        raise DamagedRowError(f"{name} does not alternate user, assistant, to a last answer")
    prompt = [message.text for message in questions]
    if system:
        prompt[0] = "\n\n".join([*system, prompt[0] or ""])
    return prompt, [message.text for message in answers]


HH = re.compile(r"\s*Human:.*\n\nAssistant:", re.DOTALL)
HH_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?")
"""Turn marks of https://huggingface.co/datasets/Anthropic/hh-rlhf."""


def read_pair(cells: Cells) -> Battle:
    """``chosen``, ``rejected`` and perhaps ``prompt``: texts, messages, or Anthropic-HH strings.

    Which of the two is shown as A is decided by their content: the one whose hash with the prompt
    is smaller. Always showing the chosen one as A would make the position tell the label. Equal
    answers have no winner.
    """
    prompt, chosen = _side("chosen", cells)
    other, rejected = _side("rejected", cells)
    if prompt != other:
        raise DamagedRowError("chosen and rejected have different user turns")
    if chosen == rejected:
        return Battle(prompt, chosen, rejected)
    if digest([prompt, chosen]) < digest([prompt, rejected]):
        return Battle(prompt, chosen, rejected, A)
    return Battle(prompt, rejected, chosen, B)


def _side(name: str, cells: Cells) -> tuple[list[str | None], list[str | None]]:
    """Prompt and answers of one side; an answer without a user turn continues ``prompt``."""
    dialogue = _dialogue(name, "assistant", cells)
    if dialogue[:1] and dialogue[0].role == "assistant":
        before = [Message("user", "")]
        if cells.get("prompt") is not None:
            before = _dialogue("prompt", "user", cells)
        if len(before) > 1 and before[-1] == Message("assistant", ""):
            before.pop()  # An HH prompt ends with the mark of the turn to come.
        dialogue = before + dialogue
    return rounds(name, dialogue)


def _dialogue(name: str, role: str, cells: Cells) -> list[Message]:
    """The messages of a cell; a plain text is one message of ``role``."""
    cell = cell_of(cells, name)
    if not isinstance(cell, str):
        return messages(name, cells)
    if not HH.match(cell):
        return [Message(role, cell)]
    _, *pieces = HH_TURN.split(cell)
    roles = {"Human": "user", "Assistant": "assistant"}
    return [Message(roles[who], text) for who, text in zip(pieces[::2], pieces[1::2], strict=True)]


@dataclass(frozen=True)
class Layout:
    """A layout: the columns by which it is recognised, and the reader of its rows.

    Attributes:
        name: shown to the user.
        texts: columns that a file of this layout has.
        read: reader function of a row's cells.
        ids: columns that may hold the id; the first one present is used.
        needs_id: whether a test file needs an id, because its submission is keyed by it.
        voted: whether the label is in winner columns (else ``read`` returns it).
    """

    name: str
    texts: tuple[str, ...]
    read: Callable[[Cells], Battle]
    ids: tuple[str, ...] = ("id", "question_id")
    needs_id: bool = False
    voted: bool = True


LMSYS = Layout("LMSYS", LMSYS_TEXTS, read_turns, needs_id=True)

LAYOUTS = (
    LMSYS,
    Layout(
        "Arena",
        ("conversation_a", "conversation_b"),
        read_conversations,
        ids=("question_id", "id"),
    ),
    Layout("pairs", ("chosen", "rejected"), read_pair, voted=False),
)

WINNER_COLUMNS = (CLASSES, ("winner_model",), ("winner",))
"""Sets of winner columns; a file's is the first set of which it has all columns."""

COLUMNS = frozenset(
    [
        *(name for layout in LAYOUTS for name in (*layout.texts, *layout.ids)),
        *(name for names in WINNER_COLUMNS for name in names),
        *("prompt", "model_a", "model_b"),
    ]
)
"""Every column that some layout reads."""


def layout_of(source: str, columns: Sequence[str]) -> Layout:
    """The first layout all of whose columns are present.

    Raises:
        UserError: there is none; the message names the columns missing for the nearest layout.
    """
    for layout in LAYOUTS:
        if set(layout.texts) <= set(columns):
            return layout
    nearest = max(LAYOUTS, key=lambda layout: len(set(layout.texts) & set(columns)))
    lacking = ", ".join(name for name in nearest.texts if name not in columns)
    known = "; ".join(f"{layout.name}: {', '.join(layout.texts)}" for layout in LAYOUTS)
    raise UserError(
        Code.COLUMN_MISSING, f"{source} has no column {lacking}. The accepted layouts are: {known}."
    )


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
            f"{source} has no column {lacking}. Training needs {', '.join(CLASSES)}, "
            "or winner_model, or winner.",
        )
    return ()


WINNERS = {"a": A, "modela": A, "b": B, "modelb": B, "tie": TIE, "bothbad": TIE, "tiebothbad": TIE}
"""Winners by name, in lower case and letters alone: "Tie (both bad)" and both_bad are ties."""


def winner_called(text: str) -> int | None:
    """The label of a winner's name, whatever its case and punctuation; None if it is unknown."""
    return WINNERS.get(re.sub(r"[\W_]", "", text.lower()))


def winner_of(cells: Cells, names: Sequence[str]) -> int:
    """The label in the winner columns ``names``; ``DamagedRowError`` where there is none."""
    if len(names) == 1:
        text = str(cell_of(cells, names[0])).strip()
        label = winner_called(text)
        if label is None:
            problem = f"is {text[:40]!r}, not a, b or tie" if text else "is empty: no winner"
            raise DamagedRowError(f"{names[0]} {problem}")
        return label
    votes = [_vote(name, cell_of(cells, name)) for name in names]
    if sum(votes) != 1:
        won = ", ".join(name for name, vote in zip(names, votes, strict=True) if vote)
        raise DamagedRowError(f"two winners: {won}" if won else f"no winner in {', '.join(names)}")
    return votes.index(1)


def _vote(name: str, cell: Any) -> int:
    vote = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}.get(
        str(cell).strip().lower()
    )
    if vote is None:
        raise DamagedRowError(f"{name} is {str(cell)[:40]!r}, not 0 or 1")
    return vote
