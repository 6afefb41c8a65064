"""Language and script: does the answer come in the language of the prompt?

Languages are py3langid's, with its probability. Only the first ``SAMPLE`` characters are read, and
text without letters has no language.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import NamedTuple

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from features.signals import answer_signal, pair_signal, prompt_signal
from features.text import Lexicon, Text, codes, once

SAMPLE = 250
"""Characters that langid reads: its cost grows with them, and at 250 it is sure of prose."""

SCRIPTS = {
    "latin": ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF)),
    "cyrillic": ((0x400, 0x52F),),
    "arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0xFB50, 0xFDFF), (0xFE70, 0xFEFE)),
    "cjk": ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF)),
    "other": ((0x370, 0x3FF), (0x530, 0x5FF), (0x900, 0x109F), (0x10A0, 0x10FF), (0x1780, 0x17FF)),
}
"""Unicode blocks of the letters of each script; ``other``: Greek, Hebrew, Indic, Thai, ..."""
BLOCKS = sorted((lo, hi, i) for i, blocks in enumerate(SCRIPTS.values()) for lo, hi in blocks)
FIRST, LAST, SCRIPT = (np.array(column) for column in zip(*BLOCKS, strict=True))

MOJIBAKE = re.compile("\ufffd|Ã[\u0080-\u00bf]|â€|Â[\u00a0-\u00bf]|ï¿½|Ð[\u0080-\u00bf]Ñ")
TRANSLATE = Lexicon(
    """translate|translation|translated|in english|into english|in spanish|in french|in german|
    in italian|in portuguese|in russian|in chinese|in japanese|in korean|in arabic|in hindi|
    in latin|in dutch|in polish|in turkish|in swedish|in greek|in hebrew|to english|to spanish|
    to french|to german|übersetze|auf deutsch|auf englisch|traduis|traduire|en français|en anglais|
    traduce|traducir|en español|en inglés|traduza|em português|em inglês|traduci|in italiano|
    переведи|на русском|на английском|翻译|用中文|用英语|翻訳|日本語で|英語で|번역|
    한국어로|영어로"""
)


class Language(NamedTuple):
    """ISO 639-1 code and probability."""

    code: str
    probability: float


NONE = Language("", 0.0)


@cache
def identifier() -> LanguageIdentifier:
    """py3langid's model, loaded once per process."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def sample(text: Text) -> str:
    """The part of a text that langid reads; empty if it has fewer than ten letters."""
    # The keywords of code do not tell the language of the text around it.
    start = text.text[: 4 * SAMPLE].split("```")[0].strip()[:SAMPLE] or text.text[:SAMPLE]
    # Most texts have as many letters in their first words.
    enough = any(sum(map(str.isalpha, part)) >= 10 for part in (start[:40], start))
    return start if enough else ""


@once
def language(text: Text) -> Language:
    """The text's language, :data:`NONE` where it has fewer than ten letters."""
    start = sample(text)
    return Language(*identifier().classify(start)) if start else NONE


@once
def scripts(text: Text) -> dict[str, float]:
    """Share of each script among the letters; all zero where there are none."""
    letters = dict.fromkeys(SCRIPTS, 0)
    if text.foreign:
        points = codes(text.foreign)
        block = np.searchsorted(FIRST, points, side="right") - 1
        counts = np.bincount(SCRIPT[block[points <= LAST[block]]], minlength=len(SCRIPTS))
        letters = dict(zip(SCRIPTS, counts.tolist(), strict=True))
    letters["latin"] += sum(text.ascii_counts[65:91]) + sum(text.ascii_counts[97:123])
    total = max(1, sum(letters.values()))
    return {name: number / total for name, number in letters.items()}


def wants_translation(prompt: Text) -> bool:
    """Whether the prompt asks for another language than its own."""
    return bool(TRANSLATE.matches(prompt))


@answer_signal
def mismatch(answer: Text, prompt: Text) -> float:
    """How surely the languages of answer and prompt differ, in [0, 1]; NaN where one has none.

    0 where the prompt asks for a translation or names a language.
    """
    languages = language(prompt), language(answer)
    if NONE in languages:
        return math.nan
    if languages[0].code == languages[1].code or wants_translation(prompt):
        return 0.0
    return languages[0].probability * languages[1].probability


@answer_signal
def english(answer: Text, prompt: Text) -> float:
    """Probability that the answer is English, 0 where it is rather another language."""
    code, probability = language(answer)
    return probability if code == "en" else 0.0


@answer_signal
def certainty(answer: Text, prompt: Text) -> float:
    """Probability of the answer's language: low for gibberish, code and mixed languages."""
    code, probability = language(answer)
    # zxx is the model's class for text in no language.
    return probability if code != "zxx" else 0.0


@answer_signal
def script_mismatch(answer: Text, prompt: Text) -> float:
    """Half the sum of |share in answer - share in prompt| over scripts, in [0, 1].

    0 where the prompt asks for a translation; NaN where a text has no letters.
    """
    of_prompt, of_answer = scripts(prompt), scripts(answer)
    if not any(of_prompt.values()) or not any(of_answer.values()):
        return math.nan
    if wants_translation(prompt):
        return 0.0
    return sum(abs(of_answer[name] - of_prompt[name]) for name in SCRIPTS) / 2


@answer_signal
def latin(answer: Text, prompt: Text) -> float:
    """Latin letters as a share of the letters."""
    return scripts(answer)["latin"]


@answer_signal
def non_ascii(answer: Text, prompt: Text) -> float:
    """Characters outside ASCII as a share of the characters."""
    return 1 - sum(answer.ascii_counts) / len(answer.text) if answer.text else 0.0


@answer_signal
def mixed_scripts(answer: Text, prompt: Text) -> float:
    """Share of the letters outside the answer's main script."""
    shares = scripts(answer).values()
    return 1 - max(shares) if any(shares) else 0.0


@answer_signal
def mojibake(answer: Text, prompt: Text) -> float:
    """Log of 1 + replacement characters and wrongly decoded sequences."""
    if not MOJIBAKE.search(answer.foreign):
        return 0.0
    return math.log1p(len(MOJIBAKE.findall(answer.text)))


@prompt_signal
def prompt_english(prompt: Text) -> float:
    """Probability that the prompt is English, 0 where it is rather another language."""
    code, probability = language(prompt)
    return probability if code == "en" else 0.0


@prompt_signal
def prompt_latin(prompt: Text) -> float:
    """Latin letters as a share of the prompt's letters."""
    return scripts(prompt)["latin"]


@prompt_signal
def prompt_cjk(prompt: Text) -> float:
    """Han, kana and Hangul as a share of the prompt's letters."""
    return scripts(prompt)["cjk"]


@prompt_signal
def prompt_cyrillic(prompt: Text) -> float:
    """Cyrillic as a share of the prompt's letters."""
    return scripts(prompt)["cyrillic"]


@prompt_signal
def translation(prompt: Text) -> float:
    """1 where the prompt asks for a translation or names a language."""
    return float(wants_translation(prompt))


@pair_signal("sym")
def differ(a: Text, b: Text, prompt: Text) -> float:
    """1 where the answers come in different languages; NaN where one has none."""
    codes = {language(a).code, language(b).code}
    return math.nan if "" in codes else float(len(codes) == 2)
