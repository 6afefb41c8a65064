"""Language and script: mismatches, where they are asked for, scripts by hand."""

import math

import pytest

from features import language
from features.text import Text

ENGLISH = Text(["What is the capital of France and how many people live there?"])
GERMAN = Text(["Wie heißt die Hauptstadt von Frankreich und wie viele Menschen leben dort?"])
IN_ENGLISH = Text(["The capital of France is Paris, where about two million people live."])
IN_GERMAN = Text(["Die Hauptstadt von Frankreich ist Paris, dort leben zwei Millionen Menschen."])
IN_FRENCH = Text(["La capitale de la France est Paris, où vivent deux millions de personnes."])
IN_CHINESE = Text(["法国的首都是巴黎，那里大约有两百万人居住。"])
NUMBERS = Text(["12 345 678 90"])


def test_mismatch_of_languages():
    assert language.mismatch(IN_GERMAN, ENGLISH) > 0.9
    assert language.mismatch(IN_FRENCH, GERMAN) > 0.9
    assert language.mismatch(IN_CHINESE, ENGLISH) > 0.6
    assert language.mismatch(IN_ENGLISH, ENGLISH) == 0
    assert language.mismatch(IN_GERMAN, GERMAN) == 0


def test_mismatch_is_as_sure_as_both_languages():
    sure = language.language(ENGLISH).probability * language.language(IN_GERMAN).probability
    assert language.mismatch(IN_GERMAN, ENGLISH) == sure


@pytest.mark.parametrize(
    "wish", ["Translate into German, please:", "Please answer this question in German:"]
)
def test_no_mismatch_where_another_language_is_asked_for(wish):
    prompt = Text([f"{wish} {ENGLISH.full}"])
    assert language.mismatch(IN_GERMAN, prompt) == 0
    assert language.script_mismatch(IN_CHINESE, prompt) == 0


def test_without_letters_there_is_no_mismatch():
    for function in (language.mismatch, language.script_mismatch):
        assert math.isnan(function(NUMBERS, ENGLISH))
        assert math.isnan(function(IN_ENGLISH, NUMBERS))
        assert not math.isnan(function(IN_ENGLISH, ENGLISH))
    assert math.isnan(language.differ(NUMBERS, IN_ENGLISH, ENGLISH))


def test_language_needs_ten_letters():
    assert language.language(Text(["Guten Tag."])) == language.NONE
    assert language.language(Text(["Guten Tag, ihr alle."])).code == "de"


def test_code_says_nothing_of_the_language():
    code = "```python\nfor line in the_file:\n    print('the end of the line and so on')\n```"
    assert language.language(Text([f"Dieses Programm liest eine Datei:\n{code}"])).code == "de"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (IN_GERMAN, "de"),
        (IN_FRENCH, "fr"),
        (IN_CHINESE, "zh"),
        (Text(["La capital de Francia es París, donde viven dos millones de personas."]), "es"),
        (Text(["フランスの首都はパリで、約二百万人が住んでいます。"]), "ja"),
        (Text(["프랑스의 수도는 파리이며 약 이백만 명이 살고 있습니다."]), "ko"),
    ],
)
def test_languages(text, code):
    assert language.language(text).code == code
    assert language.english(text, ENGLISH) == language.prompt_english(text) == 0


def test_english_and_certainty():
    result = language.language(IN_ENGLISH).probability
    assert result > 0.9
    assert language.english(IN_ENGLISH, ENGLISH) == result
    assert language.prompt_english(IN_ENGLISH) == result
    assert language.certainty(IN_ENGLISH, ENGLISH) == result
    assert language.certainty(IN_GERMAN, ENGLISH) > 0.9
    assert language.certainty(NUMBERS, ENGLISH) == 0
    assert language.certainty(Text(["asdkjh qwpoeiru zxmcnvb"]), ENGLISH) < 0.5


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("abc, DEF 12!", {"latin": 1}),
        ("ab ЖЖ", {"latin": 1 / 2, "cyrillic": 1 / 2}),
        ("é ا ب ت", {"latin": 1 / 4, "arabic": 3 / 4}),
        ("我 か カ 한 x", {"latin": 1 / 5, "cjk": 4 / 5}),
        ("αβγ א", {"other": 1}),
        ("123 !?", {}),
    ],
)
def test_scripts(text, shares):
    expected = dict.fromkeys(language.SCRIPTS, 0) | shares
    assert language.scripts(Text([text])) == expected
    text = Text([text])
    assert language.latin(text, ENGLISH) == language.prompt_latin(text) == expected["latin"]
    assert language.prompt_cjk(text) == expected["cjk"]
    assert language.prompt_cyrillic(text) == expected["cyrillic"]
    assert language.mixed_scripts(text, ENGLISH) == (1 - max(shares.values()) if shares else 0)


@pytest.mark.parametrize(
    ("answer", "prompt", "value"),
    [("мир", "world", 1), ("world", "word", 0), ("abж ж", "ab", 1 / 2), ("我", "мир ab", 1)],
)
def test_script_mismatch(answer, prompt, value):
    assert language.script_mismatch(Text([answer]), Text([prompt])) == pytest.approx(value)


@pytest.mark.parametrize(("text", "share"), [("añb ", 1 / 4), ("abc", 0), ("我", 1), ("", 0)])
def test_non_ascii(text, share):
    assert language.non_ascii(Text([text]), ENGLISH) == share


@pytest.mark.parametrize(
    ("text", "count"),
    [("caf\u00c3\u00a9 \ufffd \u00e2\u20ac\u2122", 3), ("café – déjà", 0), ("cafe", 0)],
)
def test_mojibake(text, count):
    assert language.mojibake(Text([text]), ENGLISH) == pytest.approx(math.log1p(count))


@pytest.mark.parametrize(
    ("prompt", "value"),
    [
        ("Translate 'cat'", 1),
        ("Say it in French.", 1),
        ("Übersetze das", 1),
        ("翻译这句话", 1),
        ("한국어로 말해", 1),
        ("What is a cat?", 0),
        ("Who lives in Germany?", 0),
    ],
)
def test_translation(prompt, value):
    assert language.translation(Text([prompt])) == value


def test_differ():
    assert language.differ(IN_GERMAN, IN_FRENCH, ENGLISH) == 1
    assert language.differ(IN_GERMAN, GERMAN, ENGLISH) == 0


def test_shouted_decomposed_and_damaged_texts_have_a_language():
    shouted = Text(["SCHREI NICHT SO LAUT HIER"])
    decomposed = Text(["cafe\u0301 au lait, s'il vous plai\u0302t"])
    damaged = Text([f"\ud800 {IN_GERMAN.full}"])
    codes = [language.language(text).code for text in (shouted, decomposed, damaged)]
    assert codes == ["de", "fr", "de"]
