"""Text: words, sentences, numbers, clipping, phrases."""

import pytest

from features.text import HEAD, TAIL, WORD, Lexicon, Text, clip, once, tokenize


def test_words_keep_contractions_and_split_cjk():
    assert tokenize("Don’t stop: e-mail 3x") == ["don't", "stop", "e", "mail", "3x"]
    assert tokenize("我爱 Python") == ["我", "爱", "python"]


@pytest.mark.parametrize(
    "text",
    [
        "'Tis the dogs' bone, isn't it? rock 'n' roll''s o'clock'",
        "Voilà — “l’été” d'Élodie… naïve_x ½ x² ٣",
        "ΟΔΟΣ ΣΟΦΟΣ, İstanbul ǅ",
        "tab\tline\x85feed\u2028next\x1cunit",
        "我爱 Python’s 한국어",
        "".join(map(chr, range(0x2000, 0x2100))).join("ab"),
        "\ud800lone \x00null",
    ],
)
def test_words_are_those_of_the_pattern(text):
    assert tokenize(text) == WORD.findall(text.lower().replace("’", "'"))


def test_null_turns_count_as_empty():
    text = Text(["one", None, "two"])
    assert text.turns == ["one", "", "two"]
    assert text.nulls == 1
    assert text.full == "one\n\ntwo"
    assert text.final.text == "two"


def test_sentences_have_three_words():
    assert Text(["This is one. No. Is this another one?"]).sentences == [
        "This is one.",
        "Is this another one?",
    ]


def test_sentences_of_cjk_have_three_characters():
    assert Text(["我爱你。好的。今天天气很好！"]).sentences == ["我爱你。", "今天天气很好！"]


def test_numbers():
    assert Text(["1,234.5 and 7, but not x2; 10% of 3.0."]).numbers == [1234.5, 7, 10, 3]


def test_clip_keeps_both_ends():
    text = "a" * HEAD + "x" * 5 + "b" * TAIL
    assert clip(text) == "a" * HEAD + "\n" + "b" * TAIL
    assert clip("short") == "short"


def test_count_of_ascii_characters():
    assert Text(["a?!b??é"]).count("?!") == 4


def test_lexicon_looks_up_whole_words_across_punctuation():
    lexicon = Lexicon("as an ai|sorry|我无法")
    text = Text(["Sorry, sorry! As an AI: 我无法回答. Sorryful."])
    assert lexicon.count(text) == 4
    assert sorted(lexicon.matches(text)) == [" as an ai ", " sorry ", " 我 无 法 "]
    assert lexicon.first(text) == 0
    assert lexicon.first(Text(["well, as an AI"])) == 1
    assert lexicon.first(Text(["three words only"])) == 3
    assert lexicon.share(Text(["sorry not"])) == 0.5


def test_lexicon_counts_no_phrase_inside_longer_words():
    lexicon = Lexicon("as an ai")
    assert lexicon.count(Text(["As an AI with as an aim, has an AI"])) == 1


def test_lexicon_counts_a_phrase_that_follows_itself():
    lexicon = Lexicon("very|ha ha")
    assert lexicon.count(Text(["Very, very, very good"])) == 3
    assert lexicon.count(Text(["ha ha ha ha"])) == 2


def test_once_computes_once_per_text():
    calls = []

    @once
    def length(text: Text) -> int:
        calls.append(text)
        return len(text.text)

    text = Text(["abc"])
    assert (length(text), length(text), length(Text(["de"]))) == (3, 3, 2)
    assert len(calls) == 2
