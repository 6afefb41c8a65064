"""Refusal, graded: an answer that declines, against one that only hedges and then helps.

Five kinds of phrases are looked up (apology, inability, policy, "as an AI", redirection), in the
languages of the data. With w the weights of the kinds that occur,

    evidence  e = 1 - prod(1 - w)                          in [0, 1]
    early     s = 1 / (1 + words before the first phrase / 30)
    brief     r = 1 / (1 + words from the first phrase on / 100)
    refusal     = e * s * r                                near 1: declines at once and stops
    disclaimer  = e * (1 - r)                              near 1: a disclaimer, then an answer

so an answer that apologises, explains in a sentence why it cannot, and stops scores high, while "As
an AI I have no favourite, but here is a list of ..." scores low on refusal and high on disclaimer.
The weights and scales are choices of this project, not fitted.
"""

from __future__ import annotations

import math

from features.signals import answer_signal, pair_signal
from features.text import Lexicon, Text, once

APOLOGY = Lexicon(
    """sorry|i apologize|i apologise|my apologies|apologies|unfortunately|i'm afraid|i am afraid|
    i regret|es tut mir leid|tut mir leid|leider|entschuldigung|désolé|désolée|malheureusement|
    je m'excuse|lo siento|lamento|desafortunadamente|lamentablemente|me disculpo|sinto muito|
    desculpe|infelizmente|peço desculpas|mi dispiace|purtroppo|mi scuso|извините|к сожалению|
    простите|прошу прощения|抱歉|对不起|對不起|很遗憾|不好意思|申し訳|すみません|ごめんなさい|
    残念ながら|죄송|미안|유감|helaas|het spijt me|niestety|przepraszam|üzgünüm|maalesef|xin lỗi|
    rất tiếc|maaf"""
)
INABILITY = Lexicon(
    """i cannot|i can't|i can not|i am unable|i'm unable|i am not able to|i'm not able to|
    i am incapable|i don't have access|i do not have access|i don't have the ability|
    i do not have the ability|i don't have the capability|i do not have the capability|
    i don't have enough information|i do not have enough information|i don't have information|
    i don't have any information|i do not have any information|i don't have personal|
    i do not have personal|i don't have feelings|i do not have feelings|i won't be able|
    i will not be able|i couldn't find|i could not find|i don't know|i do not know|i have no idea|
    i'm not sure what|i am not sure what|i don't understand|i do not understand|i can't assist|
    i cannot assist|i can't help|i cannot help|can't be answered|cannot be answered|
    it is not possible to|it's not possible to|it is impossible to|not possible for me|
    i don't have real time|i do not have real time|i'm just a|i'm only a|
    ich kann nicht|ich kann dir nicht|ich kann ihnen nicht|ich bin nicht in der lage|ich weiß nicht|
    ich habe keinen zugriff|je ne peux pas|je ne suis pas en mesure|je suis incapable|
    je ne sais pas|je n'ai pas accès|no puedo|no soy capaz|no tengo acceso|no lo sé|
    no tengo la capacidad|
    não posso|não consigo|não sou capaz|não tenho acesso|não sei|non posso|non sono in grado|
    non ho accesso|non lo so|я не могу|не в состоянии|у меня нет доступа|я не знаю|не имею доступа|
    我无法|我不能|無法|我没有办法|我不知道|我没有能力|できません|お答えできません|わかりません|分かりません|
    할 수 없|수 없습니다|알 수 없|모르겠|ik kan niet|ik kan geen|nie mogę|nie jestem w stanie|
    yapamam|bilmiyorum|tôi không thể|saya tidak bisa|saya tidak dapat"""
)
POLICY = Lexicon(
    """inappropriate|not appropriate|unethical|illegal|against my programming|my programming|
    violates|violate|my guidelines|content policy|ethical guidelines|safety guidelines|
    i must decline|i decline|i won't provide|i will not provide|not comfortable|harmful|offensive|
    i can't fulfill|i cannot fulfill|i cannot provide|i can't provide|i cannot engage|
    i can't engage|i cannot create|i can't create|i cannot generate|i can't generate|
    i cannot discuss|i can't discuss|i cannot support|i cannot condone|i cannot promote|
    designed to be helpful|unangemessen|illegal ist|ethisch|inapproprié|contraire à l'éthique|
    inapropiado|poco ético|ilegal|inapropriado|antiético|inappropriato|illegale|non etico|неуместно|
    незаконно|неэтично|противоречит|不合适|不适当|违法|非法|不道德|违反|不適切|違法|倫理|부적절|불법|비윤리"""
)
AS_AI = Lexicon(
    """as an ai|as a language model|as a large language model|as an artificial intelligence|
    i am an ai|i'm an ai|i am just an ai|i'm just an ai|i am a language model|i'm a language model|
    i am a large language model|i'm a large language model|as a text based|i am only an ai|
    i am a computer program|i'm a computer program|i'm just a computer program|as a chatbot|
    i am a chatbot|as an assistant|as a machine learning|i am a machine|i'm a text based ai|
    als ki|als künstliche intelligenz|als sprachmodell|en tant qu'ia|en tant que modèle|
    en tant qu'intelligence artificielle|je suis une ia|como ia|como una ia|como modelo de lenguaje|
    como un modelo de lenguaje|como inteligencia artificial|como una inteligencia artificial|
    como uma ia|como um modelo de linguagem|como modelo de linguagem|
    como uma inteligência artificial|come ia|come intelligenza artificiale|come modello linguistico|
    как ии|как искусственный интеллект|как языковая модель|я языковая модель|作为一个人工智能|
    作为一个ai|作为人工智能|作为ai|作为一个语言模型|作為一個|我是一个人工智能|我是一个ai|我是一个语言模型|
    aiとして|私はai|人工知能として|言語モデルとして|ai로서|ai 언어|인공지능으로서|언어 모델로서"""
)
REDIRECT = Lexicon(
    """i recommend consulting|i would recommend consulting|i suggest consulting|please consult|
    consult a|consult with a|seek professional|seek help|professional help|please provide more|
    could you please provide|can you please provide|please provide|please clarify|
    could you clarify|can you clarify|more context|more information|i'd be happy to help|
    i would be happy to help|is there anything else|is there something else|instead i can|
    i suggest|try searching|check with|please contact|contact the|reach out to|
    you may want to consult|bitte wenden sie sich|veuillez consulter|je vous recommande|
    le recomiendo|te recomiendo|consulte a|consulte um|recomendo|le consiglio|рекомендую|
    обратитесь|建议您|请咨询|请提供|お勧めします|ご相談|추천|문의"""
)

WEIGHTS = ((APOLOGY, 0.4), (INABILITY, 0.8), (POLICY, 0.5), (AS_AI, 0.7), (REDIRECT, 0.2))
SIGNS = (APOLOGY, INABILITY, POLICY, AS_AI)
"""Advice to ask someone else, or to say more, marks a refusal only beside one of these."""
EARLY, BRIEF = 30, 100
"""Words before, and from, the first phrase at which the score halves."""


@once
def graded(text: Text) -> tuple[float, float]:
    """(refusal, disclaimer) of one text, each in [0, 1]; the formula stands at the top."""
    doubt, first = 1.0, len(text.words)
    if not any(lexicon.matches(text) for lexicon in SIGNS):
        return 0.0, 0.0
    for lexicon, weight in WEIGHTS:
        place = lexicon.first(text)
        if place < len(text.words):
            doubt *= 1 - weight
            first = min(first, place) if lexicon in SIGNS else first
    evidence = 1 - doubt
    brief = 1 / (1 + (len(text.words) - first) / BRIEF)
    return evidence * brief / (1 + first / EARLY), evidence * (1 - brief)


@answer_signal
def refusal(answer: Text, prompt: Text) -> float:
    """Graded refusal of the last turn."""
    return graded(answer.final)[0]


@answer_signal
def disclaimer(answer: Text, prompt: Text) -> float:
    """Graded disclaimer of the last turn: the phrases of a refusal in an answer that goes on."""
    return graded(answer.final)[1]


@answer_signal
def worst_turn(answer: Text, prompt: Text) -> float:
    """The largest graded refusal of any of the first ten turns."""
    if len(answer.turns) == 1:
        return graded(answer)[0]
    clipped = len(answer.text) < len(answer.full)
    if not (clipped or any(lexicon.matches(answer) for lexicon in SIGNS)):
        return 0.0
    turns = [*(Text([turn]) for turn in answer.turns[:-1][:10]), answer.final]
    return max(graded(turn)[0] for turn in turns[:10])


@answer_signal
def apology(answer: Text, prompt: Text) -> float:
    """Log of 1 + apologies."""
    return math.log1p(APOLOGY.count(answer))


@answer_signal
def inability(answer: Text, prompt: Text) -> float:
    """Log of 1 + statements that it cannot or does not know."""
    return math.log1p(INABILITY.count(answer))


@answer_signal
def policy(answer: Text, prompt: Text) -> float:
    """Log of 1 + words of policy and morals that the prompt does not use itself."""
    return math.log1p(len(set(POLICY.matches(answer)) - set(POLICY.matches(prompt))))


@answer_signal
def as_ai(answer: Text, prompt: Text) -> float:
    """Log of 1 + statements that it is an AI."""
    return math.log1p(AS_AI.count(answer))


@answer_signal
def redirect(answer: Text, prompt: Text) -> float:
    """Log of 1 + advice to ask someone else, or requests to say more."""
    return math.log1p(REDIRECT.count(answer))


@pair_signal("sym")
def both_refuse(a: Text, b: Text, prompt: Text) -> float:
    """The smaller of both graded refusals: where both decline, a tie is likely."""
    return min(graded(a.final)[0], graded(b.final)[0])
