"""The public layouts of battles; a new one is one reader function and one line in ``LAYOUTS``.

A reader function takes the cells of one row, in which lists are decoded already
(:class:`arena.structures.Structures`), and returns a :class:`Battle` or raises ``DamagedRowError``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from arena.cells import Cells, DamagedRowError, cell_of
from arena.ids import ID_COLUMNS, id_text
from arena.messages import (
    Message,
    hh_messages,
    is_conversation,
    is_hh,
    messages,
    rounds,
)
from arena.schema import UNKNOWN, A, B, Turns, digest
from arena.votes import VOTE_COLUMNS, shortened
from common.errors import Code, UserError

SYSTEMS = ("system", "system_prompt", "system_message")
HISTORIES = ("context", "history", "chat_history")
DIALOGUES = ("messages", "conversation", "conversations", "dialogue")
"""Whole dialogues; beside a question they are something else, such as the chosen side's own."""

INPUT = "input"
"""Continues an instruction, as in Alpaca's files; without one it is the prompt."""

QUESTIONS = ("prompt", "question", "query", "instruction", "user_prompt", "user_input", INPUT)
PROMPT_COLUMNS = (*QUESTIONS, *HISTORIES, *DIALOGUES)
"""Columns that may hold the prompt, or a part of it."""

ANSWERS = tuple(
    (f"{noun}{joint}{a}", f"{noun}{joint}{b}")
    for noun in ("response", "answer", "output", "completion", "assistant", "reply")
    for joint, a, b in (("_", "a", "b"), ("_", "1", "2"), ("", "1", "2"), ("_", "0", "1"))
)
CONVERSATIONS = (
    ("conversation_a", "conversation_b"),
    ("messages_a", "messages_b"),
    ("conversations_a", "conversations_b"),
)
SIDES = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("preferred", "dispreferred"),
    ("accepted", "rejected"),
    ("response_chosen", "response_rejected"),
)
"""Names of the two answers; the first one of each pair is the better one here."""

TURN = "turn"
"""The number of turns that were judged, where a vote is on a part of the conversation."""


class Battle(NamedTuple):
    """The texts of one row, and its winner where the texts tell it."""

    prompt: list[str | None]
    response_a: list[str | None]
    response_b: list[str | None]
    label: int = UNKNOWN


AnswerNames = tuple[str, str]
"""The columns of a file's two answers."""

Reader = Callable[[Cells, AnswerNames], Battle]


def read_answers(cells: Cells, names: AnswerNames) -> Battle:
    """LMSYS and its like: a prompt and two answers, each a text or a list of turns.

    A system prompt and a history stand before the prompt's first turn; the answers in the history
    are those of both sides.
    """
    texts = [cell_of(cells, name) for name in names]
    if any(map(is_conversation, texts)):
        return read_conversations(cells, names)
    a, b = (_turns(name, cell) for name, cell in zip(names, texts, strict=True))
    before = _context(cells)
    question = _question(cells)
    if question is None and not before:
        raise DamagedRowError("prompt is missing")
    if question is None or is_conversation(question[1]):
        dialogue = before + ([] if question is None else messages(question[0], cells))
        prompt, said = _open_rounds(dialogue)
        return _checked(prompt, said + a, said + b, names)
    prompt = _turns(*question)
    if before:
        # The question ends the dialogue: its system prompt and its earlier rounds come before.
        prompt_before, said = _open_rounds([*before, Message("user", prompt[0])])
        return _checked(prompt_before + prompt[1:], said + a, said + b, names)
    return _checked(prompt, a, b, names)


def _checked(prompt: Turns, a: Turns, b: Turns, names: AnswerNames) -> Battle:
    if not len(prompt) == len(a) == len(b):
        raise DamagedRowError(
            f"turn counts differ: prompt {len(prompt)}, {names[0]} {len(a)}, {names[1]} {len(b)}"
        )
    return Battle(list(prompt), list(a), list(b))


def _open_rounds(dialogue: list[Message]) -> tuple[list[str | None], list[str | None]]:
    """User turns, the last one still to be answered, and the answers to the others."""
    prompt, said = rounds("prompt", [*dialogue, Message("assistant", "")])
    return prompt, said[:-1]


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


def _question(cells: Cells) -> tuple[str, Any] | None:
    """The column and the cell of the question, with an instruction's input; None without one."""
    for name in QUESTIONS:
        if cells.get(name) is not None:
            cell = cell_of(cells, name)
            more = cells.get(INPUT)
            if name == "instruction" and isinstance(cell, str) and isinstance(more, str) and more:
                return name, f"{cell}\n\n{more}"
            return name, cell
    return None


def _context(cells: Cells) -> list[Message]:
    """The system's text and what was said before the question."""
    before: list[Message] = []
    for name in SYSTEMS:
        if cells.get(name):
            before += [Message("system", of.text) for of in _dialogue(name, "system", cells)]
            break
    for name in HISTORIES if _question(cells) else (*HISTORIES, *DIALOGUES):
        if cells.get(name) is not None:
            before += _dialogue(name, "user", cells)
            break
    return before


def read_conversations(cells: Cells, names: AnswerNames) -> Battle:
    """Arena releases: both sides are lists of messages, or continue the prompt's."""
    (prompt, a), (other, b) = (_side(name, cells) for name in names)
    if prompt != other:
        raise DamagedRowError(f"{names[0]} and {names[1]} have different user turns")
    last = id_text(cells.get(TURN))
    if last.isdecimal() and 0 < int(last) < len(prompt):
        return Battle(prompt[: int(last)], a[: int(last)], b[: int(last)])
    return Battle(prompt, a, b)


def read_pair(cells: Cells, names: AnswerNames) -> Battle:
    """``chosen``, ``rejected`` and perhaps a prompt: texts, messages, or Anthropic-HH strings.

    Which of the two is shown as A is decided by their content: the one whose hash with the prompt
    is smaller. Always showing the chosen one as A would make the position tell the label. Equal
    answers have no winner.
    """
    prompt, chosen, rejected, _ = read_conversations(cells, names)
    if chosen == rejected:
        return Battle(prompt, chosen, rejected)
    if digest([prompt, chosen]) < digest([prompt, rejected]):
        return Battle(prompt, chosen, rejected, A)
    return Battle(prompt, rejected, chosen, B)


def each_pair(cells: dict[str, Any], names: AnswerNames) -> Iterator[dict[str, Any]]:
    """The rows that one row stands for: of lists of answers each pair (RewardBench 2)."""
    sides = [
        cell
        if isinstance(cell, list) and cell and all(isinstance(text, str) for text in cell)
        else [cell]
        for cell in (cells.get(name) for name in names)
    ]
    for pair in product(*sides):
        yield {**cells, **dict(zip(names, pair, strict=True))}


def _side(name: str, cells: Cells) -> tuple[list[str | None], list[str | None]]:
    """Prompt and answers of one side; an answer without a user turn continues the prompt."""
    dialogue = _dialogue(name, "assistant", cells)
    first = next((message.role for message in dialogue if message.role != "system"), "")
    if first == "assistant":
        dialogue = _before(name, cells) + dialogue
    return rounds(name, dialogue)


def _before(name: str, cells: Cells) -> list[Message]:
    """The dialogue that a side continues."""
    before = _context(cells)
    question = _question(cells)
    if question is not None:
        column, cell = question
        before += _dialogue(column, "user", {**cells, column: cell})
    if not any(message.role == "user" for message in before):
        raise DamagedRowError(f"{name} has no prompt, neither in it nor in a column of its own")
    if before[-1] == Message("assistant", ""):
        before.pop()  # An HH prompt ends with the mark of the turn to come.
    return before


def _dialogue(name: str, role: str, cells: Cells) -> list[Message]:
    """The messages of a cell; a plain text is one message of ``role``."""
    cell = cell_of(cells, name)
    if not isinstance(cell, str):
        return messages(name, cells)
    return hh_messages(cell) if is_hh(cell) else [Message(role, cell)]


@dataclass(frozen=True)
class Layout:
    """A layout: the columns by which it is recognised, and the reader of its rows.

    Attributes:
        name: shown to the user.
        answers: pairs of columns, of which a file of this layout has one.
        read: reader function of a row's cells, given the names of that pair.
        needs_prompt: whether the prompt is in columns of its own.
        voted: whether the label is in winner columns (else ``read`` returns it).
        several: whether a cell may hold a list of answers.
    """

    name: str
    answers: tuple[AnswerNames, ...]
    read: Reader
    needs_prompt: bool = False
    voted: bool = True
    several: bool = False


LMSYS = Layout("LMSYS", ANSWERS, read_answers, needs_prompt=True)
PAIRS = Layout("pairs", SIDES, read_pair, voted=False, several=True)
LAYOUTS = (LMSYS, Layout("Arena", CONVERSATIONS, read_conversations), PAIRS)

GROUP_COLUMN, WEIGHT = "group", "weight"

COLUMNS = frozenset(
    [
        *(name for layout in LAYOUTS for names in layout.answers for name in names),
        *(*SYSTEMS, *PROMPT_COLUMNS, TURN, GROUP_COLUMN, WEIGHT, "model_a", "model_b"),
        *ID_COLUMNS,
        *VOTE_COLUMNS,
    ]
)
"""Every column that some layout reads."""


def layout_of(source: str, columns: Sequence[str]) -> tuple[Layout, AnswerNames]:
    """The first layout of which a file has the answers, and their columns.

    Raises:
        UserError: there is none, or the prompt's column is missing; the message lists the columns.
    """
    has = f"Its columns are: {shortened(columns)}."
    for layout in LAYOUTS:
        for names in layout.answers:
            if not set(names) <= set(columns):
                continue
            if layout.needs_prompt and not set(PROMPT_COLUMNS) & set(columns):
                raise UserError(
                    Code.COLUMN_MISSING,
                    f"{source} has no column prompt (nor {', '.join(PROMPT_COLUMNS[1:6])}). {has}",
                )
            return layout, names
    known = [(*("prompt",) * of.needs_prompt, *of.answers[0]) for of in LAYOUTS]
    nearest = max(known, key=lambda names: len(set(names) & set(columns)))
    lacking = ", ".join(name for name in nearest if name not in columns)
    accepted = "; ".join(
        f"{of.name}: {', '.join(names)}" for of, names in zip(LAYOUTS, known, strict=True)
    )
    raise UserError(
        Code.COLUMN_MISSING,
        f"{source} has no column {lacking}. {has} The accepted layouts are: {accepted}.",
    )


def prompt_columns(columns: Sequence[str]) -> list[str]:
    """The columns of a file that its prompt is read from."""
    question = next((name for name in QUESTIONS if name in columns), None)
    histories = HISTORIES if question else (*HISTORIES, *DIALOGUES)
    used = [next((name for name in of if name in columns), None) for of in (SYSTEMS, histories)]
    more = INPUT if question == "instruction" and INPUT in columns else None
    return [name for name in (*used, question, more) if name is not None]
