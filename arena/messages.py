"""Conversations: lists of messages as public files have them, and Anthropic-HH strings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from arena.cells import Cells, DamagedRowError, cell_of

ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "chatgpt", "model", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "function_call"), "tool"),
}
"""Roles of OpenAI's messages, by the names that they and ShareGPT have for them."""

TOOLS, IMAGES = "tool calls", "images and files"
"""Parts of a conversation that are not read."""


class Message(NamedTuple):
    """One message of a conversation."""

    role: str
    text: str | None


def is_conversation(cell: Any) -> bool:
    """Whether a cell holds one message, or a list of messages."""
    if isinstance(cell, dict):
        return True
    return isinstance(cell, list) and any(isinstance(item, dict) for item in cell)


def messages(name: str, cells: Cells) -> list[Message]:
    """The messages of a cell: {role, content} or {from, value} each, or pairs of texts.

    Content is text, or parts of text. Messages of tools are left out (:func:`unread_parts`).
    """
    cell = cell_of(cells, name)
    items = [cell] if isinstance(cell, dict) else cell
    if not isinstance(items, list):
        raise DamagedRowError(f"{name} is not a list of messages")
    if items and all(isinstance(item, list) and len(item) == 2 for item in items):
        # A history as LLaMA-Factory has it: [[question, answer], ...].
        roles = ("user", "assistant")
        pairs = [zip(roles, item, strict=True) for item in items]
        return [Message(role, _text(name, text)) for pair in pairs for role, text in pair]
    return [message for item in items if (message := _message(name, item)).role != "tool"]


def _message(name: str, item: Any) -> Message:
    for role, content in (("role", "content"), ("from", "value")):
        if isinstance(item, dict) and role in item:
            known = ROLES.get(str(item[role]).lower(), str(item[role]))
            if content not in item and known != "assistant":
                break
            text = _text(name, item.get(content))
            called = known == "assistant" and not text and item.get("tool_calls")
            return Message("tool" if called else known, text)
    raise DamagedRowError(f"{name} holds an item without role and content")


def _text(name: str, content: Any) -> str | None:
    """Text of a message; of parts, those of text, since no image can be read here."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise DamagedRowError(f"{name} has a message that is not text")
    texts = [part.get("text") for part in content]
    return "\n".join(text for text in texts if isinstance(text, str))


def unread_parts(cell: Any) -> set[str]:
    """What of a conversation is left out: ``TOOLS``, ``IMAGES``."""
    unread: set[str] = set()
    for item in cell if isinstance(cell, list) else [cell]:
        if not isinstance(item, dict):
            continue
        role = str(item.get("role", item.get("from", ""))).lower()
        if item.get("tool_calls") or ROLES.get(role) == "tool":
            unread.add(TOOLS)
        parts = item.get("content")
        for part in parts if isinstance(parts, list) else []:
            if isinstance(part, dict) and not isinstance(part.get("text"), str):
                unread.add(IMAGES)
    return unread


def rounds(name: str, dialogue: Sequence[Message]) -> tuple[list[str | None], list[str | None]]:
    """User turns and assistant turns; text of the system goes before the first user turn.

    Messages of one speaker that follow each other are one turn.
    """
    system = [message.text or "" for message in dialogue if message.role == "system"]
    turns: list[Message] = []
    for message in dialogue:
        if message.role == "system":
            continue
        if turns and turns[-1].role == message.role:
            both = [text for text in (turns[-1].text, message.text) if text]
            turns[-1] = Message(message.role, "\n\n".join(both))
        else:
            turns.append(message)
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
        prompt[0] = "\n\n".join(text for text in [*system, prompt[0] or ""] if text)
    return prompt, [message.text for message in answers]


HH = re.compile(r"\s*Human:.*\n\nAssistant:", re.DOTALL)
HH_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?")
"""Turn marks of https://huggingface.co/datasets/Anthropic/hh-rlhf."""


def is_hh(text: str) -> bool:
    """Whether a text is a whole dialogue with turn marks."""
    return HH.match(text) is not None


def hh_messages(text: str) -> list[Message]:
    """The messages of a dialogue with turn marks."""
    _, *pieces = HH_TURN.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    return [Message(roles[who], text) for who, text in zip(pieces[::2], pieces[1::2], strict=True)]
