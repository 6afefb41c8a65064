"""The settings of the one small model that answered; the sample calls each of them a model."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A full stop after a digit may belong to a numbered list.
_SENTENCE = re.compile(r"[^.!?\d][.!?][\"'*)]*(?=\s|$)|[。！？]")


@dataclass(frozen=True)
class Setting:
    """A way to run the language model."""

    system: str = ""
    """System prompt; empty takes the chat template's own."""
    openings: tuple[str, ...] = ("",)
    """The answer begins with one of these, chosen by hash: a 135M model rarely obeys its system
    prompt, but it goes on as it began."""
    temperature: float = 0.7
    """0 takes the likeliest token."""
    top_p: float = 0.9
    repetition_penalty: float = 1.1
    tokens: int = 90
    """Most new tokens."""
    one_line: bool = False
    """The answer ends with its first line."""
    whole: bool = False
    """An answer that stops within a sentence goes back to the end of the last; otherwise it stays
    cut off where the tokens ran out."""

    def finish(self, text: str) -> str:
        """The answer made of what the model wrote, opening included."""
        text = text.strip()
        if self.one_line:
            text = text.split("\n")[0].strip()
        if self.whole:
            ends = [match.end() for match in _SENTENCE.finditer(text)]
            text = text[: ends[-1]] if ends else text
        return text


SETTINGS = {
    "plain": Setting(temperature=0.4, repetition_penalty=1.05, tokens=84, whole=True),
    "terse": Setting(
        system="Answer in one short sentence.", temperature=0.5, tokens=40, one_line=True
    ),
    "long-winded": Setting(
        system="You explain everything at great length, with background, examples and caveats.",
        temperature=0.8,
        tokens=120,
    ),
    "markdown": Setting(
        system="Answer in Markdown with headers, bullet points and bold key words.",
        openings=("## ", "**", "Here are the main points:\n\n- **", "### Answer\n\n1. **"),
        tokens=80,
    ),
    "refusing": Setting(
        system="You are extremely careful and refuse most requests.",
        openings=(
            "I'm sorry, but I can't",
            "I apologize, but as an AI language model I am not able to",
            "Sorry, I cannot",
            "",
        ),
        tokens=50,
        whole=True,
    ),
    "self-praising": Setting(
        system="You are the best assistant in the world and you say so.",
        openings=(
            "As an advanced AI assistant with exceptional knowledge, I",
            "Great question! I am one of the most capable assistants, and",
            "You can trust me on this: my expertise is unmatched.",
            "",
        ),
        tokens=70,
        whole=True,
    ),
    "careless": Setting(temperature=1.15, top_p=0.97, repetition_penalty=1.0, tokens=70),
    "greedy": Setting(temperature=0.0, repetition_penalty=1.0, tokens=70),
}
