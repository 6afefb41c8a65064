"""Prompt type: what is asked. Signals of the prompt move the share of ties and what is rewarded."""

from __future__ import annotations

import math
import re

from features.signals import prompt_signal
from features.text import Lexicon, Text, tokenize

CODE = Lexicon(
    """code|python|java|javascript|typescript|sql|html|css|function|script|program|algorithm|
    regex|api|json|bash|linux|compile|debug|def|import|return|class|database|docker|github|excel|
    formula|react|rust|php|numpy|pandas|código|代码|コード|코드|код"""
)
MATHS = Lexicon(
    """calculate|solve|equation|integral|derivative|probability|sum|multiply|divide|percent|percentage|
    triangle|angle|radius|geometry|algebra|theorem|prove|proof|how much|how many|average|
    square root|prime|fraction|matrix|arithmetic|math|maths|berechne|calcule|calcula|вычисли|
    计算|計算|方程|계산"""
)
CREATIVE = Lexicon(
    """write a story|story|poem|haiku|song|lyrics|limerick|joke|jokes|fiction|novel|rap|slogan|
    fan fiction|screenplay|dialogue|monologue|tale|write a scene|creative|imagine|gedicht|
    geschichte|poème|histoire|poema|cuento|história|poesia|стих|рассказ|写一首|故事|詩|物語|시를"""
)
REWRITE = Lexicon(
    """summarize|summarise|summary|rewrite|paraphrase|rephrase|edit|proofread|improve|shorten|
    simplify|correct|tl dr|extract|classify|categorize|identify|convert|zusammenfassen|fasse|résume|
    résumé|resume|resumen|resumir|riassumi|перепиши|кратко|总结|改写|要約|요약"""
)
ROLE = Lexicon(
    """act as|you are a|you are an|pretend|roleplay|role play|i want you to act|imagine you are|
    imagine you're|in the style of|as if you were|as a|du bist|tu es|eres un|
    você é|ты|你是|あなたは"""
)
LISTS = Lexicon(
    """list|give me|top|examples|ideas|suggestions|tips|ways to|reasons|steps|name some|names of|
    recommend|brainstorm|bullet points|liste|lista|список|列出|リスト|목록"""
)
BRIEF = Lexicon(
    """briefly|brief|short|concise|concisely|in one word|one word|in one sentence|one sentence|
    in a sentence|in a few words|few words|quick|just answer|only answer|answer only|only the|
    no explanation|kurz|bref|brièvement|breve|brevemente|кратко|简短|简要|短く|간단히"""
)
LONG = Lexicon(
    """detailed|in detail|details|essay|comprehensive|thorough|long|in depth|elaborate|
    step by step|article|report|blog post|explain your|at least|ausführlich|détaillé|detallado|
    detalhado|dettagliato|подробно|详细|詳しく|자세히"""
)
CONSTRAINTS = Lexicon(
    """must|exactly|only|at least|at most|no more than|should|do not|don't|without|never|always|
    ensure|make sure|include|avoid|use|limit|format|following|between"""
)
OPINION = Lexicon(
    """do you think|your opinion|should i|would you|do you like|your favorite|favourite|best|better|
    worst|feel|recommend|prefer|advice"""
)
EXPLAIN = Lexicon(
    """explain|why|how does|how do|what is the difference|describe|compare|analyze|discuss|
    what are the|erkläre|explique|explica|объясни|解释|説明|설명"""
)
GREETING = Lexicon(
    """hi|hello|hey|good morning|how are you|thanks|thank you|who are you|what can you do|hallo|
    bonjour|salut|hola|olá|oi|ciao|привет|你好|こんにちは|안녕"""
)
UNSAFE = Lexicon(
    """kill|murder|suicide|bomb|weapon|weapons|drug|drugs|steal|hack|hacking|rape|sex|sexual|sexy|
    porn|nude|racist|hate|nazi|terrorist|terrorism|poison|illegal|cocaine|meth|torture|abuse|gun|
    violence|violent|attack|exploit|malware|virus|phishing|blackmail|fraud|jailbreak|nsfw|erotic"""
)
CHOICE = re.compile(r"(?:^|\s)\(?[A-Da-d][).:]\s.{1,300}?(?:\s)\(?[B-Eb-e][).:]\s", re.S)
QUESTION_WORDS = frozenset(tokenize("what who whom whose when where which why how"))
FACT_WORDS = frozenset(tokenize("who when where which"))
YES_NO_WORDS = frozenset(
    tokenize("""is are was were do does did can could will would should has have had am""")
)


def asks(lexicon: Lexicon, prompt: Text) -> float:
    """Log of 1 + occurrences in the last turn, the request that was answered last."""
    return math.log1p(lexicon.count(prompt.final))


@prompt_signal
def characters(prompt: Text) -> float:
    """Log of 1 + characters of all turns."""
    return math.log1p(len(prompt.full))


@prompt_signal
def last_words(prompt: Text) -> float:
    """Log of 1 + words of the last turn."""
    return math.log1p(len(prompt.final.words))


@prompt_signal
def lines(prompt: Text) -> float:
    """Log of 1 + lines that are not blank."""
    return math.log1p(len(prompt.lines))


@prompt_signal
def sentences(prompt: Text) -> float:
    """Log of 1 + sentences."""
    return math.log1p(len(prompt.sentences))


@prompt_signal
def question_marks(prompt: Text) -> float:
    """Log of 1 + question marks."""
    return math.log1p(prompt.count("?"))


@prompt_signal
def ends_with_question(prompt: Text) -> float:
    """1 where the last turn ends with a question mark."""
    return float(prompt.final.text.rstrip().endswith(("?", "？")))


@prompt_signal
def trailing_blank(prompt: Text) -> float:
    """1 where the prompt ends with white space: pasted rather than typed."""
    return float(prompt.text[-1:].isspace())


@prompt_signal
def code(prompt: Text) -> float:
    """Words of programming."""
    return asks(CODE, prompt)


@prompt_signal
def symbols(prompt: Text) -> float:
    """Characters of code and mathematics per character."""
    return prompt.count("{}[]<>=+*/\\|^~_&%$#@;") / max(1, len(prompt.text))


@prompt_signal
def maths(prompt: Text) -> float:
    """Words of mathematics."""
    return asks(MATHS, prompt)


@prompt_signal
def numbers(prompt: Text) -> float:
    """Log of 1 + numbers in digits."""
    return math.log1p(len(prompt.numbers))


@prompt_signal
def creative(prompt: Text) -> float:
    """Words that ask for stories, poems, jokes."""
    return asks(CREATIVE, prompt)


@prompt_signal
def rewrite(prompt: Text) -> float:
    """Words that ask to summarise, rewrite, classify or extract."""
    return asks(REWRITE, prompt)


@prompt_signal
def role(prompt: Text) -> float:
    """Words that give the model a role."""
    return asks(ROLE, prompt)


@prompt_signal
def list_request(prompt: Text) -> float:
    """Words that ask for a list, ideas, examples."""
    return asks(LISTS, prompt)


@prompt_signal
def brief(prompt: Text) -> float:
    """Words that ask for brevity."""
    return asks(BRIEF, prompt)


@prompt_signal
def detailed(prompt: Text) -> float:
    """Words that ask for length or detail."""
    return asks(LONG, prompt)


@prompt_signal
def constraints(prompt: Text) -> float:
    """Words that constrain the answer ("must", "exactly", "at most")."""
    return asks(CONSTRAINTS, prompt)


@prompt_signal
def opinion(prompt: Text) -> float:
    """Words that ask for a judgement or advice."""
    return asks(OPINION, prompt)


@prompt_signal
def explain(prompt: Text) -> float:
    """Words that ask for an explanation."""
    return asks(EXPLAIN, prompt)


@prompt_signal
def greeting(prompt: Text) -> float:
    """1 where a prompt of at most twelve words greets, thanks or asks who it is."""
    return float(len(prompt.final.words) <= 12 and bool(GREETING.matches(prompt.final)))


@prompt_signal
def unsafe(prompt: Text) -> float:
    """Words of violence, crime and sex, in all turns."""
    return math.log1p(UNSAFE.count(prompt))


@prompt_signal
def multiple_choice(prompt: Text) -> float:
    """1 where options A, B, ... are given."""
    return float(bool(CHOICE.search(prompt.final.text[-3000:])))


@prompt_signal
def question_word(prompt: Text) -> float:
    """1 where the last turn begins with "what", "how", ..."""
    return float(bool(QUESTION_WORDS.intersection(prompt.final.words[:1])))


@prompt_signal
def fact(prompt: Text) -> float:
    """1 where a last turn of at most 25 words begins with "who", "when", "where", "which"."""
    words = prompt.final.words
    return float(len(words) <= 25 and bool(FACT_WORDS.intersection(words[:1])))


@prompt_signal
def yes_no(prompt: Text) -> float:
    """1 where the last turn begins like a question for yes or no."""
    return float(bool(YES_NO_WORDS.intersection(prompt.final.words[:1])))


@prompt_signal
def short_question(prompt: Text) -> float:
    """1 where the last turn is a question of at most ten words."""
    return float(len(prompt.final.words) <= 10 and "?" in prompt.final.text)
