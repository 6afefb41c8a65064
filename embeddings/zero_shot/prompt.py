"""The question whose next token is a verdict: which of two answers would a person prefer?

A, B, or C for a tie. As token ids it stands in the backbone's chat template. As plain text it is
for an endpoint whose tokenizer is not at hand: servers read special tokens in a prompt that is a
string (llama.cpp and vLLM both do), so whatever looks like one is broken up in the battle's texts.
Lines of the question itself are broken up there in either case.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np

from common.errors import Code, UserError
from embeddings.prompts.chat_template import (
    PAIR_HEADERS,
    PLAIN_HEADERS,
    Template,
    comparison_template,
    conversation_template,
    encoder_of,
    without_surrogates,
)
from embeddings.prompts.truncation import Packer

QUESTION_VERSION = 1

LETTERS = ("A", "B", "C")
"""What stands for each of ``arena.schema.CLASSES``: first answer, second answer, tie."""

TASK = "Below are a prompt and two answers to it. Which answer would a person prefer?\n\n"
DEMAND = "\n\nWhich answer would a person prefer? Reply with one letter: A, B, or C for a tie."

SPACES = ("", "Ġ", "▁")
"""How vocabularies write the space before a word, if there is one: byte-level BPE, SentencePiece.
A letter counts with and without it."""

CHARACTERS_A_TOKEN = 3
"""Characters of plain text that stand for a token of a budget: few, so that a prompt in most
languages stays within it."""

MARKER = re.compile(r"<(?=[|｜]|[^\s<>]{1,80}>)|\[(?=/?(?:[A-Z_]{2,40}|[gs]MASK)\])")
"""The bracket that opens what may be a special token: ``<|im_start|>``, ``</s>``, ``<｜User｜>``,
``<start_of_turn>``, ``[INST]``, ``[gMASK]``. No list of them is complete, so every ``<word>`` is
one, HTML too."""


def token_packer(tokenizer: Any) -> Packer:
    """Packs battles into the question as token ids of this tokenizer.

    Raises:
        UserError: the tokenizer has no ``tokenizer.json``.
    """
    encoder = encoder_of(tokenizer)
    pair, chat = comparison_template(encoder), conversation_template(encoder)
    template = replace(
        pair,
        opening=chat.opening + encoder.structure(f"{TASK}Prompt:\n"),
        closing=encoder.structure(DEMAND) + pair.closing,
        headers=(*pair.headers, TASK.strip(), DEMAND.strip()),
    )
    return Packer(encoder, template)


def text_packer() -> Packer:
    """Packs battles into the question as plain text; a "token" is a character's code point."""

    def codes(text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    template = Template(
        codes(f"User: {TASK}Prompt:\n"),
        (codes("\n\nAnswer A:\n"), codes("\n\nAnswer B:\n")),
        codes("\n\nPrompt:\n"),
        codes(f"{DEMAND}\n\nAssistant:"),
        (*PLAIN_HEADERS, *PAIR_HEADERS, TASK.strip(), DEMAND.strip()),
    )
    return Packer(Characters(), template)


class Characters:
    """Turns texts into code points."""

    def text(self, text: str) -> list[int]:
        """Code points of a text in which nothing is a special token or ends a C string."""
        sendable = without_surrogates(text).replace("\0", "\ufffd")
        return list(map(ord, escape_special_tokens(sendable)))


def escape_special_tokens(text: str) -> str:
    """The text with a space after every bracket that may open a special token."""
    return MARKER.sub(r"\g<0> ", text)


def as_text(codes: np.ndarray) -> str:
    """The text of code points, int32 (n,)."""
    return "".join(map(chr, codes.tolist()))


def letter_tokens(tokenizer: Any) -> tuple[tuple[int, ...], ...]:
    """The token ids that say each letter, ascending.

    Raises:
        UserError: a letter is no single token.
    """
    vocabulary = tokenizer.get_vocab()
    token_ids = tuple(
        tuple(sorted({vocabulary[s + letter] for s in SPACES if s + letter in vocabulary}))
        for letter in LETTERS
    )
    if not all(token_ids):
        raise UserError(
            Code.TOKENIZER_UNSUPPORTED,
            f"The tokenizer has no single token for one of {', '.join(LETTERS)}. Take another "
            "backbone.",
        )
    return token_ids


def from_top(top: dict[str, float]) -> tuple[np.ndarray, int]:
    """The letters' log-probabilities among an endpoint's likeliest next tokens.

    A letter that is not among them gets the smallest log-probability seen: it has that at most.

    Args:
        top: log-probability by token as text; at least one.

    Returns:
        float64 (3,) in the order of ``LETTERS``, and how many letters were not among them.
    """
    tokens = [(token.lstrip("".join(SPACES) + " "), value) for token, value in top.items()]
    of_letters = [[value for token, value in tokens if token == letter] for letter in LETTERS]
    floor = min(top.values())
    log_probs = [np.logaddexp.reduce(values) if values else floor for values in of_letters]
    return np.array(log_probs, dtype=np.float64), sum(not values for values in of_letters)
