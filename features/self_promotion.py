"""Self-promotion: names itself or its maker, praises itself, flatters, offers more."""

from __future__ import annotations

import math

from features.signals import answer_signal
from features.text import Lexicon, Text, tokenize

MAKERS = Lexicon(
    """openai|open ai|chatgpt|gpt|gpt 3|gpt 4|gpt 3.5|anthropic|claude|google ai|google|gemini|bard|
    palm|deepmind|meta ai|llama|mistral|mixtral|qwen|alibaba cloud|tongyi|vicuna|lmsys|alpaca|koala|
    guanaco|tulu|wizardlm|open assistant|laion|dolly|databricks|falcon|chatglm|zhipu|ernie|baidu|
    command r|cohere|grok|xai|deepseek|phi|copilot|bing chat|stablelm|stability ai|hugging face|
    huggingface|yi|01.ai|通义千问|文心一言|智谱"""
)
IDENTITY = Lexicon(
    """my name is|i was created by|i was developed by|i was trained by|i was made by|
    i am developed by|created by openai|developed by openai|trained by openai|trained by google|
    created by anthropic|developed by meta|i am chatgpt|i'm chatgpt|i am claude|i'm claude|
    i am bard|i am vicuna|i am assistant|i'm assistant|i am open assistant|i am an assistant|
    i am a helpful|i'm a helpful|large language model trained|ich wurde entwickelt|
    j'ai été créé|fui creado por|fui criado por|sono stato creato|меня создали|
    我是由|我叫|によって開発"""
)
SELF_PRAISE = Lexicon(
    """this comprehensive|this detailed|comprehensive answer|comprehensive guide|
    comprehensive overview|comprehensive response|detailed answer|in depth answer|
    thorough answer|accurate answer|as an expert|i am an expert|i'm an expert|with my expertise|
    my expertise|i am the best|i'm the best|best answer|perfect answer|high quality answer|
    i am highly|rest assured|trust me|i can assure you|i assure you|i have carefully|i've carefully|
    i have provided|as requested|exactly what you need|umfassende antwort|réponse complète|
    réponse détaillée|respuesta completa|respuesta detallada|resposta completa|risposta completa|
    подробный ответ|全面的回答|详细的回答"""
)
FLATTERY = Lexicon(
    """great question|good question|excellent question|interesting question|fascinating question|
    wonderful question|that's a great|that is a great|what a great|what a wonderful|
    great idea|excellent idea|great choice|you're absolutely right|you are absolutely right|
    you're right|you are right|thank you for asking|thanks for asking|i'm glad you asked|
    gute frage|tolle frage|bonne question|excellente question|buena pregunta|
    excelente pregunta|boa pergunta|ótima pergunta|bella domanda|ottima domanda|хороший вопрос|
    отличный вопрос|好问题|很好的问题|いい質問|좋은 질문"""
)
OFFERS = Lexicon(
    """let me know if|let me know|feel free to|if you have any|any other questions|
    any further questions|anything else i can|is there anything else|happy to help|
    glad to help|here to help|how can i help|how can i assist|how may i|don't hesitate|
    i hope this helps|hope this helps|hope that helps|i hope this|would you like me to|
    wenn sie weitere fragen|lass es mich wissen|ich hoffe das hilft|n'hésitez pas|
    j'espère que cela|no dudes en|no dude en|espero que esto|espero que isso|
    não hesite|spero che|non esitare|дайте знать|надеюсь это|如果您有|希望这|请告诉我|
    お気軽に|언제든지"""
)
EAGER = Lexicon(
    """sure|certainly|of course|absolutely|definitely|gladly|no problem|okay|ok|alright|yes|here is|
    here's|here are|natürlich|gerne|klar|bien sûr|certainement|voici|claro|por supuesto|aquí|
    com certeza|aqui está|certo|ecco|certamente|конечно|вот|当然|好的|もちろん|물론"""
)
OPENING_WORDS, CLOSING_WORDS = 4, 60


def among(lexicon: Lexicon, text: Text, words: list[str]) -> bool:
    """Whether a phrase occurs in a part of the text's words."""
    spoken = f" {' '.join(words)} "
    return any(phrase in spoken for phrase in lexicon.matches(text))


@answer_signal
def names_itself(answer: Text, prompt: Text) -> float:
    """Log of 1 + names of models and their makers that the prompt does not bring up."""
    return math.log1p(len(set(MAKERS.matches(answer)) - set(MAKERS.matches(prompt))))


@answer_signal
def identity(answer: Text, prompt: Text) -> float:
    """Log of 1 + statements of who it is or who made it."""
    return math.log1p(IDENTITY.count(answer))


@answer_signal
def self_praise(answer: Text, prompt: Text) -> float:
    """Log of 1 + praise of its own answer or knowledge."""
    return math.log1p(SELF_PRAISE.count(answer))


@answer_signal
def flattery(answer: Text, prompt: Text) -> float:
    """Log of 1 + flattery of the user."""
    return math.log1p(FLATTERY.count(answer))


@answer_signal
def offers(answer: Text, prompt: Text) -> float:
    """1 where the answer ends with an offer of more help."""
    final = answer.final
    return float(among(OFFERS, final, final.words[-CLOSING_WORDS:]))


@answer_signal
def eager(answer: Text, prompt: Text) -> float:
    """1 where the answer opens with "Sure", "Certainly", "Here is" and the like."""
    final = answer.final
    return float(among(EAGER, final, final.words[:OPENING_WORDS]))


@answer_signal
def restates(answer: Text, prompt: Text) -> float:
    """Share of the first line's words that the prompt holds: it restates the task."""
    first = tokenize(answer.final.lines[0][:300]) if answer.final.lines else []
    return sum(word in prompt.counts for word in first) / max(1, len(first))
