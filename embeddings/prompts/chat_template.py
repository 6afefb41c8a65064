"""The model's chat template as token ids, and the tokenizing of untrusted texts.

The structure of a conversation (role headers, end-of-turn tokens) is tokenized with special tokens;
prompts and answers are tokenized without, each on its own, so no text can open or close a turn. The
structure comes from the tokenizer's chat template, rendered with placeholders and split on them. So
what a template does to the texts themselves (trimming, escaping) is replaced by one rule: white
space is stripped at both ends. Headers that the structure writes as ordinary text (``Answer B:``)
are broken up where a text contains them.

A default system prompt that a template adds (SmolLM2, Qwen2) is kept: the model was trained with
it. Without a chat template, or with one that does not return the placeholders in order, the plain
template is used: ``User: PROMPT``, blank line, ``Assistant: ANSWER``, then blank line and ``User:``
again, after a BOS token where the tokenizer has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError
from tokenizers import AddedToken, Tokenizer

from common.errors import Code, UserError

TEMPLATE_VERSION = 1

DATE = {
    "%d": "26",
    "%-d": "26",
    "%e": "26",
    "%m": "07",
    "%b": "Jul",
    "%B": "July",
    "%y": "24",
    "%Y": "2024",
    "%a": "Fri",
    "%A": "Friday",
    "%H": "12",
    "%M": "00",
    "%S": "00",
}
CLOCK = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace({directive!r}, {value!r})" for directive, value in DATE.items())
    + " }}{% endmacro %}\n"
)
"""Put before a chat template in place of transformers' function of that name, which reads the
clock. (transformers 5 turns a function that is passed as an argument into text, and drops a line
break after a block.)"""

Ids = tuple[int, ...]

PLAIN_HEADERS: tuple[str, ...] = ("User:", "Assistant:")
PAIR_HEADERS = ("Prompt:\n", "Answer A:\n", "Answer B:\n")
"""The headers of the plain template, and of two answers side by side."""


@dataclass(frozen=True)
class Template:
    """Token ids around the texts of a conversation."""

    opening: Ids
    """Before the first prompt."""
    before_answers: tuple[Ids, ...]
    """Before each answer of a round: one entry where an answer is packed alone, two for a pair."""
    between: Ids
    """After a round's last answer, before the next prompt."""
    closing: Ids
    """After the last answer."""
    headers: tuple[str, ...] = ()
    """Ordinary text that begins a line of the structure, and must not begin one of a battle's text;
    the whole line where it ends with a line break."""


class Encoder:
    """Tokenizes the structure with special tokens, and texts without."""

    def __init__(self, tokenizer: Any) -> None:
        """Copy the tokenizer's backend, so that settings do not leak from one copy to the other.

        Args:
            tokenizer: a transformers tokenizer with a ``tokenizers`` backend.

        Raises:
            UserError: the tokenizer has no such backend, or its chat template fails.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise UserError(
                Code.TOKENIZER_UNSUPPORTED,
                "The backbone's tokenizer has no tokenizer.json. Save it with transformers first.",
            )
        self._structure = _clone(backend)
        self._texts = _clone(backend)
        self.tokenizer = tokenizer
        written = _written(tokenizer)
        control = {
            i: AddedToken(t.content, special=True)
            for i, t in tokenizer.added_tokens_decoder.items()
            if t.special or (t.content in written and not t.content.isspace())
        }
        # Some tokenizers declare the tokens of their template as ordinary added tokens.
        self._texts.add_special_tokens(list(control.values()))
        self._texts.encode_special_tokens = True
        self._control = set(control) - {tokenizer.unk_token_id}

    def structure(self, text: str) -> Ids:
        """Token ids of template text; special tokens are recognised."""
        return tuple(self._structure.encode(text, add_special_tokens=False).ids)

    def text(self, text: str) -> list[int]:
        """Token ids of a text of a prompt or an answer; never a special token.

        Lone surrogates become U+FFFD. A tokenizer whose model can build a special token out of
        characters (Unigram) loses it here.
        """
        ids: list[int] = self._texts.encode(without_surrogates(text), add_special_tokens=False).ids
        return [i for i in ids if i not in self._control]


@lru_cache(maxsize=8)
def encoder_of(tokenizer: Any) -> Encoder:
    """The encoder of a tokenizer, made once: to copy a vocabulary takes half a second.

    Raises:
        UserError: as ``Encoder`` does.
    """
    return Encoder(tokenizer)


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for every surrogate that stands alone."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def broken_up(text: str, headers: Iterable[str]) -> str:
    """The text with a space before the last character of each header that begins a line.

    Args:
        text: of a prompt or an answer.
        headers: as in ``Template``.
    """
    for header in headers:
        words = header.rstrip()
        if words in text:
            rest = r"[^\S\n]*$" if header.endswith("\n") else ""
            line = f"^{re.escape(words[:-1])}(?={re.escape(words[-1])}{rest})"
            text = re.sub(line, r"\g<0> ", text, flags=re.MULTILINE)
    return text


def _clone(backend: Tokenizer) -> Tokenizer:
    clone = Tokenizer.from_str(backend.to_str())
    clone.no_padding()
    clone.no_truncation()
    return clone


def conversation_template(encoder: Encoder) -> Template:
    """The template in which one answer stands after its prompt, as the model would have said it.

    Its ``closing`` is what the template writes after an answer, the end-of-turn token first.
    """
    tokenizer = encoder.tokenizer
    rendered = _render(tokenizer)
    headers = () if rendered else PLAIN_HEADERS
    if rendered is None:
        bos = tokenizer.bos_token or ""
        rendered = [f"{bos}User: ", "\n\nAssistant: ", "\n\nUser: ", tokenizer.eos_token or "\n\n"]
    opening, middle, between, closing = (encoder.structure(piece) for piece in rendered)
    return Template(opening, (middle,), between, closing, headers)


def comparison_template(encoder: Encoder) -> Template:
    """The template in which two answers stand side by side in one user turn, A before B.

    Its ``closing`` opens the model's turn, where the verdict is read.
    """
    chat = conversation_template(encoder)
    return Template(
        chat.opening + encoder.structure("Prompt:\n"),
        (encoder.structure("\n\nAnswer A:\n"), encoder.structure("\n\nAnswer B:\n")),
        encoder.structure("\n\nPrompt:\n"),
        chat.before_answers[0],
        (*chat.headers, *PAIR_HEADERS),
    )


def _written(tokenizer: Any) -> str:
    """The text of all chat templates, and of the default one rendered (``'<|' + role + '|>'``).

    A tokenizer may have several templates, by name.
    """
    templates = tokenizer.chat_template or ""
    texts = [templates] if isinstance(templates, str) else templates.values()
    return "\n".join([*texts, *(_render(tokenizer) or [])])


def _render(tokenizer: Any) -> list[str] | None:
    """The pieces of the chat template around two rounds, or ``None`` where there is no valid one.

    The date is fixed: some templates write today's, and the same input must give the same tokens
    tomorrow.

    Raises:
        UserError: the template fails otherwise than by rejecting the conversation.
    """
    if not tokenizer.chat_template:
        return None
    marks = ["Xquestion1X", "Xanswer1X", "Xquestion2X", "Xanswer2X"]
    roles = ["user", "assistant"] * 2
    try:
        text: str = tokenizer.apply_chat_template(
            [{"role": r, "content": m} for r, m in zip(roles, marks, strict=True)],
            chat_template=CLOCK + tokenizer.get_chat_template(),
            tokenize=False,
            date_string="26 Jul 2024",
        )
    except (TemplateError, ValueError, TypeError):
        return None
    except Exception as error:
        # A template is a program and may fail like one: 1/0, range(10**9), endless recursion.
        raise UserError(
            Code.CHAT_TEMPLATE_INVALID,
            f"The backbone's chat template cannot be rendered ({type(error).__name__}: {error}). "
            "Fix or delete it in the model folder (tokenizer_config.json or chat_template.jinja).",
        ) from error
    pieces = []
    for mark in marks:
        before, separator, text = text.partition(mark)
        if not separator or mark in text:
            return None
        pieces.append(before)
    opening, middle, between, _ = pieces
    return [opening, middle, between, text]
