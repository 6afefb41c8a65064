"""Diction: which kinds of words an answer is made of."""

from __future__ import annotations

import math
import re
from itertools import compress

from features.signals import answer_signal
from features.text import Lexicon, Text, once, tokenize

HEDGES = Lexicon(
    """maybe|perhaps|might|may|could|possibly|probably|likely|unlikely|seems|seem|appears|appear|
    suggests|generally|usually|typically|often|sometimes|in general|in some cases|it depends|
    depending on|i think|i believe|i guess|not sure|it is possible|it's possible|tends to|tend to|
    approximately|roughly|potentially|arguably|somewhat|vielleicht|möglicherweise|wahrscheinlich|
    peut-être|probablement|quizás|tal vez|probablemente|talvez|provavelmente|forse|возможно|
    наверное|可能|也许|かもしれない|多分|아마"""
)
CERTAIN = Lexicon(
    """always|never|definitely|certainly|absolutely|clearly|obviously|undoubtedly|surely|
    of course|no doubt|without a doubt|must|every|all|none|exactly|completely|entirely|
    in fact|guaranteed|proven|essential|crucial|sicherlich|natürlich|bien sûr|toujours|siempre|
    por supuesto|sempre|certamente|конечно|всегда|一定|当然|必ず|절대"""
)
FIRST_PERSON = Lexicon("i|me|my|mine|myself|i'm|i've|i'd|i'll")
WE = Lexicon("we|us|our|ours|we're|we've|we'll|let's")
SECOND_PERSON = Lexicon("you|your|yours|yourself|you're|you've|you'll|you'd")
NEGATIONS = Lexicon(
    """not|no|nor|neither|without|don't|doesn't|didn't|isn't|aren't|wasn't|weren't|can't|cannot|
    couldn't|won't|wouldn't|shouldn't|nothing|nobody|kein|keine|nicht|pas|ningún|não|
    нет|不是|没有"""
)
REASONS = Lexicon(
    """because|since|therefore|thus|hence|so that|as a result|consequently|due to|reason|reasons|
    this means|which means|that's why|this is why|weil|deshalb|parce que|donc|porque|por lo tanto|
    portanto|perché|quindi|потому что|поэтому|因为|所以|なぜなら|따라서"""
)
STEPS = Lexicon(
    """first|firstly|second|secondly|third|thirdly|next|then|finally|lastly|step|steps|
    in conclusion|in summary|to summarize|overall|to begin with|afterwards|zuerst|schließlich|
    d'abord|ensuite|enfin|primero|luego|finalmente|primeiro|depois|infine|во-первых|наконец|
    首先|其次|最后|まず|최종적으로"""
)
CONTRASTS = Lexicon(
    """however|although|but|on the other hand|while|whereas|despite|nevertheless|though|
    in contrast|instead|aber|jedoch|mais|cependant|pero|sin embargo|porém|tuttavia|но|однако|
    但是|然而|しかし|하지만"""
)
EXAMPLES = Lexicon(
    """for example|for instance|such as|e.g|including|like|namely|specifically|in particular|
    zum beispiel|par exemple|por ejemplo|por exemplo|ad esempio|например|例如|たとえば|예를 들어"""
)
POLITE = Lexicon(
    """please|thank you|thanks|welcome|glad|happy to|pleasure|dear|sincerely|best regards|bitte|
    danke|merci|s'il vous plaît|gracias|por favor|obrigado|grazie|спасибо|пожалуйста|谢谢|
    ありがとう|감사합니다"""
)
WARM = Lexicon(
    """great|wonderful|amazing|excellent|fantastic|beautiful|love|enjoy|fun|exciting|perfect|
    delicious|happy|joy|best|unique|special|important|valuable|powerful"""
)
STOPWORDS = frozenset(
    tokenize(
        """a an the and or but if of to in on at by for with from as is are was were be been being
        it its this that these those there here he she they them his her their i me my
        we us our you your do does did have has had will would can could should may
        might must not no so than then too very just about into over under out up down
        off again what which who whom how when where why all any each some such only own
        same other more most also"""
    )
)
CAPITALISED = re.compile(r"[A-Z](?<=[a-z,;] [A-Z])[a-z]{1,30}")
LONG_WORD = 7


@once
def telling(text: Text) -> set[str]:
    """The different words that are no function words."""
    return text.counts.keys() - STOPWORDS


@once
def telling_counts(text: Text) -> list[int]:
    """How often each of them occurs."""
    return [*map(text.counts.__getitem__, telling(text))]


def root_ttr(words: int, kinds: int) -> float:
    """Guiraud's root type-token ratio, kinds / sqrt(words): less bound to length than the ratio."""
    return kinds / math.sqrt(words) if words else 0.0


@answer_signal
def distinct_words(answer: Text, prompt: Text) -> float:
    """Different words as a share of the words."""
    return len(answer.counts) / len(answer.words) if answer.words else math.nan


@answer_signal
def guiraud(answer: Text, prompt: Text) -> float:
    """Guiraud's root type-token ratio."""
    return root_ttr(len(answer.words), len(answer.counts))


@answer_signal
def single_words(answer: Text, prompt: Text) -> float:
    """Words that occur once, as a share of the different words."""
    once = list(answer.counts.values()).count(1)
    return once / len(answer.counts) if answer.words else math.nan


@answer_signal
def word_length(answer: Text, prompt: Text) -> float:
    """Log of the mean characters of a word."""
    if not answer.words:
        return math.nan
    return math.log((len(answer.spoken) - 1 - len(answer.words)) / len(answer.words))


@answer_signal
def long_words(answer: Text, prompt: Text) -> float:
    """Share of the words with at least ``LONG_WORD`` characters."""
    is_long = map(LONG_WORD.__le__, map(len, answer.counts))
    long = sum(compress(answer.counts.values(), is_long))
    return long / len(answer.words) if answer.words else math.nan


@answer_signal
def stop_words(answer: Text, prompt: Text) -> float:
    """Share of English function words: low in keyword lists, code and other languages."""
    function_words = len(answer.words) - sum(telling_counts(answer))
    return function_words / len(answer.words) if answer.words else math.nan


@answer_signal
def numbers(answer: Text, prompt: Text) -> float:
    """Log of 1 + numbers in digits."""
    return math.log1p(len(answer.numbers))


@answer_signal
def digits(answer: Text, prompt: Text) -> float:
    """Digits as a share of the characters."""
    return sum(answer.ascii_counts[48:58]) / max(1, len(answer.text))


@answer_signal
def names(answer: Text, prompt: Text) -> float:
    """Log of 1 + capitalised words inside a sentence: names, concrete facts."""
    return math.log1p(len(CAPITALISED.findall(answer.text)))


@answer_signal
def hedges(answer: Text, prompt: Text) -> float:
    """Hedging words per word."""
    return HEDGES.share(answer)


@answer_signal
def certain(answer: Text, prompt: Text) -> float:
    """Words of certainty per word."""
    return CERTAIN.share(answer)


@answer_signal
def first_person(answer: Text, prompt: Text) -> float:
    """How often "I", "me", "my" per word."""
    return FIRST_PERSON.share(answer)


@answer_signal
def we(answer: Text, prompt: Text) -> float:
    """How often "we", "us", "our" per word."""
    return WE.share(answer)


@answer_signal
def second_person(answer: Text, prompt: Text) -> float:
    """How often "you", "your" per word."""
    return SECOND_PERSON.share(answer)


@answer_signal
def negations(answer: Text, prompt: Text) -> float:
    """Negating words per word."""
    return NEGATIONS.share(answer)


@answer_signal
def reasons(answer: Text, prompt: Text) -> float:
    """Words that give reasons, per word."""
    return REASONS.share(answer)


@answer_signal
def steps(answer: Text, prompt: Text) -> float:
    """Words that order an explanation, per word."""
    return STEPS.share(answer)


@answer_signal
def contrasts(answer: Text, prompt: Text) -> float:
    """Words that weigh one thing against another, per word."""
    return CONTRASTS.share(answer)


@answer_signal
def examples(answer: Text, prompt: Text) -> float:
    """Words that announce an example, per word."""
    return EXAMPLES.share(answer)


@answer_signal
def polite(answer: Text, prompt: Text) -> float:
    """Words of courtesy per word."""
    return POLITE.share(answer)


@answer_signal
def warm(answer: Text, prompt: Text) -> float:
    """Words of warmth and praise per word."""
    return WARM.share(answer)
