"""Endings: cut off, left open, or going on to speak for the user."""

from __future__ import annotations

import math
import re

from features.formatting import fences
from features.signals import answer_signal, prompt_signal
from features.text import TAIL, Text, tokenize

FINAL = ".!?。！？…؟।:;)]}\"'”’»」`*|>"
"""Characters that an answer that is complete may end with."""
OPEN_ITEM = re.compile(r"^[ \t]{0,20}(?:[-*+•]|\d{1,3}[.)])[ \t]{0,20}$")
DANGLING = frozenset(
    tokenize(
        """a an the and or but of to in on at by for with from as is are was were be that this
        which who if because your my their his her its our it's such than into about
        between not will can"""
    )
)
MARKS = re.compile(
    r"<\|[a-z_]{2,20}\|>|</?s>|<unk>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<pad>|<eos>"
)
HEADS = re.compile(
    r"^\s{0,3}#{1,4} {0,2}(?:Human|Assistant|User|Instruction|Response|Input|Output)\b", re.M
)
# These two are for ``Text.lined``.
LABELS = re.compile(
    r"\n(?:User|Human|USER|HUMAN|Assistant|ASSISTANT|Question|Q|Input|Output):",
)
SPEAKERS = re.compile(r"\n(?:###? ?)?(?:User|Human|USER|HUMAN|Me|You): ?\S")


def tail(text: Text) -> str:
    """The end of the last turn, without white space behind it."""
    return text.turns[-1][-TAIL:].rstrip() if text.turns else ""


@answer_signal
def empty(answer: Text, prompt: Text) -> float:
    """1 where no turn has a visible character."""
    return float(not answer.text.strip())


@answer_signal
def unfinished(answer: Text, prompt: Text) -> float:
    """1 where the last turn ends without final punctuation."""
    end = tail(answer)
    return float(bool(end) and end[-1] not in FINAL)


@answer_signal
def cut_off(answer: Text, prompt: Text) -> float:
    """1 where a text of several sentences stops on a letter, a comma or an open list item."""
    end = tail(answer)
    if len(answer.final.sentences) < 2:
        return 0.0
    last_line = end.rpartition("\n")[2]
    stops = end[-1:].isalnum() or end[-1:] in (",", "-", "(", "，", "、")
    # A list's last item ends without a full stop in a complete answer, too.
    listed = bool(re.match(r"[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]", last_line))
    return float((stops and not listed) or bool(OPEN_ITEM.match(last_line)))


@answer_signal
def dangling(answer: Text, prompt: Text) -> float:
    """1 where the last word is one that no sentence ends with ("the", "and")."""
    end = tail(answer)
    return float(end[-1:].isalpha() and end.rsplit(maxsplit=1)[-1].lower() in DANGLING)


@answer_signal
def open_fence(answer: Text, prompt: Text) -> float:
    """1 where a code block is never closed."""
    return float(fences(answer) % 2)


@answer_signal
def open_bracket(answer: Text, prompt: Text) -> float:
    """Log of 1 + brackets that are opened more often than closed."""
    return math.log1p(sum(max(0, answer.count(o) - answer.count(c)) for o, c in ("()", "[]", "{}")))


@answer_signal
def question(answer: Text, prompt: Text) -> float:
    """1 where the answer ends with a question."""
    return float(tail(answer).endswith(("?", "？", "؟")))


@answer_signal
def full_stop(answer: Text, prompt: Text) -> float:
    """1 where the answer ends with a full stop."""
    return float(tail(answer).endswith((".", "。")))


@answer_signal
def colon(answer: Text, prompt: Text) -> float:
    """1 where the answer ends with a colon: it announces and then stops."""
    return float(tail(answer).endswith((":", "：")))


@answer_signal
def exclamation(answer: Text, prompt: Text) -> float:
    """1 where the answer ends with an exclamation mark."""
    return float(tail(answer).endswith(("!", "！")))


@answer_signal
def debris(answer: Text, prompt: Text) -> float:
    """Log of 1 + marks of a chat template ("<|im_end|>", "### Human", "[INST]", "Q:")."""
    text = answer.text
    heads = len(HEADS.findall(text)) if "#" in text else 0
    marks = len(MARKS.findall(text)) if "<" in text or "[" in text else 0
    return math.log1p(marks + heads + len(LABELS.findall(answer.lined)))


@answer_signal
def speaks_for_user(answer: Text, prompt: Text) -> float:
    """1 where a line gives the user's next words, unless the prompt has such lines too."""
    return float(bool(SPEAKERS.search(answer.lined)) and not SPEAKERS.search(prompt.lined))


@prompt_signal
def prompt_unfinished(prompt: Text) -> float:
    """1 where the prompt ends without final punctuation."""
    end = tail(prompt)
    return float(bool(end) and end[-1] not in FINAL)
