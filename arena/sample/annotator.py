"""The simulated annotator of the sample: what it looks at, and how it votes.

Every measure is a function of the texts alone, so the best possible log loss (that of the true
probabilities) is reachable in principle. Nothing here imitates a real person; see
arena/sample/README.md.

The utility of an answer is the mean over its turns of

    u = 5.0 quality + 1.2 verbosity + 0.6 formatting - 2.0 self_praise + r refusal

with r = -2.5, or +2.5 where the prompt is unsafe. The vote follows Davidson's model of paired
comparison with ties,

    P(A) ∝ exp(u_a + POSITION),   P(B) ∝ exp(u_b),   P(tie) ∝ ν exp((u_a + u_b) / 2),

where ties grow with the similarity of the answers (Jaccard overlap of their words, 0 to 1) and with
how bad the better one is (1 - its quality, refusals counted as no quality):

    log ν = -1.0 + 2.5 similarity + 2.0 badness.

Source: R. R. Davidson (1970), On extending the Bradley-Terry model to accommodate ties in paired
comparison experiments, Journal of the American Statistical Association 65, 317-328.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

import numpy as np

from arena.schema import Turns

POSITION = 0.028
"""Log-odds of A against B that A owes to standing first: 50.7% of even decisive battles, the +.7
percentage points of the LMSYS votes."""

TIE_BASE, TIE_SIMILARITY, TIE_BADNESS = -1.0, 2.5, 2.0
QUALITY, VERBOSITY, FORMATTING, SELF_PRAISE, REFUSAL = 5.0, 1.2, 0.6, 2.0, 2.5

ENOUGH_WORDS = 80
"""Above this length more words bring no more utility."""

# Chinese and Japanese write no spaces, so each of their characters counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
_STRUCTURE = re.compile(r"^\s*([-*•]|\d+[.)]|#{1,6})\s|\*\*|```|\|.+\|", re.MULTILINE)
_WANTS_STRUCTURE = re.compile(
    r"\b(list|steps?|step by step|ideas|tips|points|names|reasons|plan|table|recipe|options"
    r"|pros and cons|compare|instructions|write an? \w+ function|code|sql|python|javascript"
    r"|ingredients|tasks|liste|ideen|vorteile|idées|receta|ricetta)\b",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(i['’]?m (very |so |really )?sorry|i am (very |so )?sorry|i apologi[sz]e|my apologies"
    r"|i (can['’]?t|cannot|can not|won['’]?t|will not|am not able to|am unable to) "
    r"|i['’]?m (not able|unable) to|as an ai\b|against my (policy|guidelines)"
    r"|es tut mir leid|ich kann (dir |ihnen )?(leider )?nicht|je suis désolée?|je ne peux pas"
    r"|lo siento|no puedo|desculpe|não posso|mi dispiace|non posso)|抱歉|申し訳|извините|не могу",
    re.IGNORECASE,
)
_SELF_PRAISE = re.compile(
    r"\bi(['’]m| am) (one of )?(the )?(world['’]s )?(most|best|smartest|finest|an? (expert|advanced"
    r"|highly|world-class|leading|exceptional|renowned|master))"
    r"|\b(my|as an?) (vast|expert|expertise|exceptional|unmatched|unrivalled|superior|brilliant"
    r"|advanced|highly|world-class|leading|extensive|renowned)"
    r"|\b(trust me|no other (assistant|model|ai)|better than any|proud to)\b",
    re.IGNORECASE,
)
_UNSAFE = re.compile(
    r"\b(bombs?|phishing|steal|meth|malware|forge|stalk|without her knowing"
    r"|without being noticed|without getting caught)\b",
    re.IGNORECASE,
)
_ABOUT_LANGUAGE = re.compile(
    r"translat|übersetz|tradui|tradu[cz]|翻译|訳|перевед|how do you say|word\b.*\bmean"
    r"|\b(english|french|spanish|german|italian|portuguese|japanese|anglais|inglés|englische)\b",
    re.IGNORECASE,
)
_FUNCTION_WORDS = {
    "en": "the and of to is in that it you for are with this on as have be your can not what",
    "de": "der die das und ist ein eine nicht ich zu den mit für wie kann auf dem auch sind",
    "fr": "le les des est une et pour dans que qui pas vous un sur avec je ne du au",
    "es": "el los las es una y para que en con por del como no un se lo al su más",
    "pt": "o os as é uma e para que em com por do da como não um se ao na mais",
    "it": "il gli le è una e per che di con del della come non un si nel la sono",
}
_TONGUES = {tongue: frozenset(words.split()) for tongue, words in _FUNCTION_WORDS.items()}


@dataclass(frozen=True)
class Measures:
    """What the annotator sees in one turn of one answer; each in [0, 1]."""

    relevance: float
    """Share of the prompt's content words (five at most) that the answer takes up."""
    distinct: float
    """Share of its word trigrams that occur for the first time."""
    complete: float
    """Whether it ends as a text does."""
    language: float
    """Whether it is in the prompt's language and script."""
    verbosity: float
    """Logarithm of its number of words, 1 from ``ENOUGH_WORDS`` on."""
    formatting: float
    """Whether it has a list, bold, headers, code or a table where the prompt calls for one."""
    refusal: float
    """1 where it opens with a refusal and says little else; less further on or in a long answer."""
    self_praise: float
    """1 from two boasts on."""

    @property
    def quality(self) -> float:
        """0.4 relevance + 0.2 distinct + 0.2 complete + 0.2 language."""
        return (
            0.4 * self.relevance + 0.2 * self.distinct + 0.2 * self.complete + 0.2 * self.language
        )


def measure(prompt: str, answer: str) -> Measures:
    """Measure one turn of an answer against the prompt that it answers."""
    words = _words(answer)
    wants = bool(_WANTS_STRUCTURE.search(prompt))
    return Measures(
        relevance=_relevance(prompt, words),
        distinct=_distinct(words),
        complete=_complete(answer, words),
        language=_language(prompt, answer) if words else 0.0,
        verbosity=min(1.0, math.log1p(len(words)) / math.log1p(ENOUGH_WORDS)),
        formatting=float(wants and bool(_STRUCTURE.search(answer))),
        refusal=_refusal(answer, words),
        self_praise=min(1.0, len(_SELF_PRAISE.findall(answer)) / 2),
    )


def utility(prompt: Turns, response: Turns) -> tuple[float, float]:
    """Utility of an answer, and its goodness in [0, 1] (quality, less so far as it refuses).

    Both are means over the turns; a ``null`` turn counts as empty. Where prompt and response differ
    in their number of turns, a missing turn is empty.
    """
    utilities, goodness = [], []
    for i in range(max(len(prompt), len(response), 1)):
        text = prompt[i] if i < len(prompt) else None
        answer = response[i] if i < len(response) else None
        m = measure(text or "", answer or "")
        unsafe = bool(_UNSAFE.search(text or ""))
        utilities.append(
            QUALITY * m.quality
            + VERBOSITY * m.verbosity
            + FORMATTING * m.formatting
            - SELF_PRAISE * m.self_praise
            + (REFUSAL if unsafe else -REFUSAL) * m.refusal
        )
        goodness.append(m.quality * (1.0 if unsafe else 1.0 - m.refusal))
    return sum(utilities) / len(utilities), sum(goodness) / len(goodness)


def similarity(response_a: Turns, response_b: Turns) -> float:
    """Jaccard overlap of the two answers' sets of words, 0 to 1; two empty answers have 1."""
    a, b = (set(_words("\n".join(t or "" for t in r))) for r in (response_a, response_b))
    return len(a & b) / len(a | b) if a | b else 1.0


def davidson(u_a: float, u_b: float, log_nu: float, position: float = POSITION) -> np.ndarray:
    """Davidson's probabilities of A, B and tie; float64, shape (3,), class order ``CLASSES``."""
    logits = np.array([u_a + position, u_b, log_nu + (u_a + u_b) / 2])
    weights = np.exp(logits - logits.max())
    probabilities: np.ndarray = weights / weights.sum()
    return probabilities


def annotate(
    prompt: Turns, response_a: Turns, response_b: Turns, position: float = POSITION
) -> np.ndarray:
    """The true probabilities of the annotator's vote.

    Args:
        prompt: the prompt's turns.
        response_a: the turns of answer A.
        response_b: the turns of answer B.
        position: log-odds that A owes to standing first.

    Returns:
        float64, shape (3,), class order ``arena.schema.CLASSES``.
    """
    u_a, good_a = utility(prompt, response_a)
    u_b, good_b = utility(prompt, response_b)
    log_nu = (
        TIE_BASE
        + TIE_SIMILARITY * similarity(response_a, response_b)
        + TIE_BADNESS * (1.0 - max(good_a, good_b))
    )
    return davidson(u_a, u_b, log_nu, position)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _content(words: list[str]) -> set[str]:
    # Five letters stand for the word: a cheap stem. Short words say little, except numbers and
    # characters that are words of their own.
    return {w[:5] for w in words if len(w) > 3 or not w.isascii() or w.isdigit()}


def _relevance(prompt: str, words: list[str]) -> float:
    wanted = _content(_words(prompt))
    if not wanted:
        return 0.5 if words else 0.0
    return min(1.0, len(wanted & _content(words)) / min(len(wanted), 5))


def _distinct(words: list[str]) -> float:
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    if not trigrams:
        return float(bool(words))
    return len(set(trigrams)) / len(trigrams)


def _complete(answer: str, words: list[str]) -> float:
    text = answer.rstrip().rstrip("*_\"'”’»)")
    if not words or text.count("```") % 2:
        return 0.0
    return float(len(words) <= 3 or text.endswith((".", "!", "?", "…", "。", "！", "？", "```")))


def _script(text: str) -> tuple[str, float]:
    """The script of most letters (the first word of their Unicode names), and its share."""
    scripts = Counter(
        unicodedata.name(c, "?").split()[0].split("-")[0] for c in text if c.isalpha()
    )
    if not scripts:
        return "", 1.0
    # Japanese mixes three scripts.
    if scripts["HIRAGANA"] + scripts["KATAKANA"]:
        scripts["CJK"] += scripts.pop("HIRAGANA", 0) + scripts.pop("KATAKANA", 0)
    script, count = scripts.most_common(1)[0]
    return script, count / scripts.total()


def _tongue(text: str) -> str:
    """The Latin-script language with most function words, "" where fewer than two are found."""
    words = Counter(_words(text))
    hits = {t: sum(words[w] for w in known) for t, known in _TONGUES.items()}
    best = max(hits, key=lambda t: hits[t])
    return best if hits[best] > 1 else ""


def _language(prompt: str, answer: str) -> float:
    if _ABOUT_LANGUAGE.search(prompt):
        return 1.0
    wanted, _ = _script(prompt)
    script, share = _script(answer)
    if wanted and script and wanted != script:
        return 0.0
    tongues = {_tongue(prompt), _tongue(answer)} - {""}
    return 0.0 if wanted == "LATIN" and len(tongues) > 1 else share


def _refusal(answer: str, words: list[str]) -> float:
    match = _REFUSAL.search(answer)
    if not match:
        return 0.0
    return (1.0 if match.start() < 120 else 0.4) * (1.0 if len(words) <= 60 else 0.6)
