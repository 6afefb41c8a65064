"""Packing a conversation into a token budget.

Whole rounds are kept, from the last round backwards: the vote is cast after the last answer, and
the rounds just before it are its context. In the round that overflows, prompt and answers share the
remaining tokens; an answer gets twice the prompt's share (20 / 40 / 40 for two answers, as in the
4th place of the LMSYS competition; 1/3 : 2/3 for one), and what one of them does not need goes to
the others. A text that is cut keeps its head and its tail, 3 : 1, around an ellipsis. With fewer
than ``SMALLEST_SHARE`` tokens left, the round and all earlier ones are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple, Protocol

import numpy as np

from arena.schema import Turns
from common.errors import Code, UserError
from embeddings.prompts.chat_template import Ids, Template, broken_up

SMALLEST_SHARE = 80
"""Tokens under which a share of a round is not worth reading (4th place, LMSYS competition)."""

CHARACTERS_A_TOKEN = 8
"""A text of more than twice as many characters per token of the budget is cut before it is
tokenized, for speed."""

STRUCTURE, PROMPT = -1, 0


class Texts(Protocol):
    """Turns untrusted texts into the units that are packed: ``chat_template.Encoder``."""

    def text(self, text: str) -> list[int]:
        """Tokens of a text; none is a special token of the template."""
        ...


@dataclass(frozen=True)
class Packed:
    """One sequence.

    Attributes:
        ids: token ids, int32 (n,), n at most the budget.
        owner: int8 (n,): -1 template and ellipsis, 0 prompt, 1 + j answer j.
        last: for each answer, the position of the last content token of its last turn; where that
            turn is empty, of the last token before it.
        start: for each answer, where its last turn begins (n at most, where it is empty).
        prompt_cut: tokens of the prompt left out, dropped rounds included.
        answer_cut: tokens of the answers left out, dropped rounds included.
        rounds: rounds in the sequence.
    """

    ids: np.ndarray
    owner: np.ndarray
    last: tuple[int, ...]
    start: tuple[int, ...]
    prompt_cut: int
    answer_cut: int
    rounds: int

    def content(self, answer: int) -> np.ndarray:
        """Positions of the content tokens of an answer, all rounds; int64, ascending."""
        return np.flatnonzero(self.owner == 1 + answer)


class _Cut(NamedTuple):
    """What is kept of a text, and how many tokens are not."""

    head: list[int]
    tail: list[int]
    lost: int


@dataclass(frozen=True)
class _Text:
    """A tokenized text; ``tail`` and ``lost`` where its middle was cut before tokenizing."""

    head: list[int]
    tail: list[int]
    lost: int

    def cut(self, room: int, ellipsis: list[int]) -> _Cut:
        """Fit the text ``room`` tokens, ellipsis included.

        The ellipsis stands between head and tail, and only where there is a tail.
        """
        total = len(self.head) + len(self.tail)
        if not self.lost and total <= room:
            return _Cut(self.head, [], 0)
        kept = room - len(ellipsis)
        if kept < 4:
            head = self.head[: max(room, 0)]
            return _Cut(head, [], self.lost + total - len(head))
        if total <= kept:
            return _Cut(self.head, self.tail, self.lost)
        from_tail = kept // 4
        if self.lost:
            from_tail = min(from_tail, len(self.tail))
            head, tail = self.head[: kept - from_tail], self.tail[len(self.tail) - from_tail :]
        else:
            head = self.head[: kept - from_tail]
            tail = self.head[len(self.head) - from_tail :]
        return _Cut(head, tail, self.lost + total - len(head) - len(tail))

    def length(self, ellipsis: list[int]) -> int:
        """Tokens that the text takes up uncut."""
        return len(self.head) + (len(ellipsis) + len(self.tail) if self.lost else 0)


def shares(lengths: Sequence[int], room: int) -> list[int]:
    """Divide ``room`` tokens between a prompt and answers of these lengths.

    An answer weighs twice a prompt; nobody gets more than its length, and what is over goes to the
    others by the same weights. Equal lengths of answers get equal shares.

    Args:
        lengths: tokens of the prompt, then of each answer.
        room: tokens there are.
    """
    weights = [1] + [2] * (len(lengths) - 1)
    granted = [0] * len(lengths)
    waiting = list(range(len(lengths)))
    while waiting:
        total = sum(weights[i] for i in waiting)
        content = [i for i in waiting if lengths[i] * total <= weights[i] * room]
        if not content:
            for i in waiting:
                granted[i] = weights[i] * room // total
            break
        for i in content:
            granted[i] = lengths[i]
        room -= sum(lengths[i] for i in content)
        waiting = [i for i in waiting if i not in content]
    return granted


class Packer:
    """Packs battles' texts into one template."""

    def __init__(self, encoder: Texts, template: Template) -> None:
        """``template`` has as many ``before_answers`` as answers are packed together."""
        self.encoder, self.template = encoder, template
        self.ellipsis = encoder.text("…")

    def smallest_budget(self) -> int:
        """The smallest budget in which any conversation leaves ``SMALLEST_SHARE`` for its texts."""
        t = self.template
        structure = len(t.opening) + sum(map(len, t.before_answers)) + len(t.closing)
        return structure + SMALLEST_SHARE

    def pack(self, prompt: Turns, answers: Sequence[Turns], budget: int) -> Packed:
        """Pack the rounds of a conversation with one answer, or with two side by side.

        A ``None`` turn reads as an empty text.

        Args:
            prompt: the user's turns.
            answers: the turns of each answer, one list an answer.
            budget: most tokens of the sequence, template included.

        Raises:
            UserError: the budget is under ``smallest_budget()``.
        """
        if budget < self.smallest_budget():
            raise UserError(
                Code.MAX_TOKENS_TOO_SMALL,
                f"max_tokens {budget} is too small. This template needs {self.smallest_budget()}.",
            )
        t = self.template
        rounds = [
            [self._tokenize(turn, budget) for turn in turns]
            for turns in zip_longest(prompt, *answers)
        ] or [[_Text([], [], 0)] * (1 + len(answers))]
        kept: list[list[_Cut]] = []
        left = budget - len(t.opening) - len(t.closing)
        for texts in reversed(rounds):
            room = left - sum(map(len, t.before_answers)) - (len(t.between) if kept else 0)
            lengths = [text.length(self.ellipsis) for text in texts]
            whole = sum(lengths) <= room
            if not whole and room < SMALLEST_SHARE:
                break
            granted = lengths if whole else shares(lengths, room)
            kept.append(
                [x.cut(n, self.ellipsis) for x, n in zip(texts, granted, strict=True)],
            )
            left = room - sum(granted)
            if not whole:
                break
        dropped = rounds[: len(rounds) - len(kept)]
        return self._lay_out(kept[::-1], dropped, len(answers))

    def _tokenize(self, turn: str | None, budget: int) -> _Text:
        text = broken_up((turn or "").strip(), self.template.headers)
        half = CHARACTERS_A_TOKEN * budget
        if len(text) <= 2 * half:
            return _Text(self.encoder.text(text), [], 0)
        head, tail = self.encoder.text(text[:half]), self.encoder.text(text[-half:])
        # Assume as many characters per token in the middle as at the ends.
        lost = (len(text) - 2 * half) * (len(head) + len(tail)) // (2 * half)
        return _Text(head, tail, max(1, lost))

    def _lay_out(
        self,
        rounds: list[list[_Cut]],
        dropped: list[list[_Text]],
        answers: int,
    ) -> Packed:
        t = self.template
        ids: list[int] = []
        owner: list[int] = []

        def put(tokens: Ids | list[int], of: int) -> None:
            ids.extend(tokens)
            owner.extend([of] * len(tokens))

        cut = [0] * (1 + answers)
        start = [0] * answers
        last = [0] * answers
        for number, texts in enumerate(rounds):
            put(t.between if number else t.opening, STRUCTURE)
            for of, (head, tail, lost) in enumerate(texts):
                if of > PROMPT:
                    put(t.before_answers[of - 1], STRUCTURE)
                    start[of - 1] = len(ids)
                put(head, of)
                if tail:
                    put(self.ellipsis, STRUCTURE)
                    put(tail, of)
                if of > PROMPT:
                    last[of - 1] = len(ids) - 1
                cut[of] += lost
        put(t.closing, STRUCTURE)
        for texts_dropped in dropped:
            for of, text in enumerate(texts_dropped):
                cut[of] += len(text.head) + len(text.tail) + text.lost
        return Packed(
            np.array(ids, dtype=np.int32),
            np.array(owner, dtype=np.int8),
            tuple(last),
            tuple(start),
            cut[PROMPT],
            sum(cut[1:]),
            len(rounds),
        )
