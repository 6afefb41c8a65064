"""Answers of the sample: openings, later turns, and what is kept."""

from types import SimpleNamespace

import pytest

from arena.sample import battles
from arena.sample.battles import Prompt
from arena.sample.settings import SETTINGS
from pipelines import sample_answers


class Tokenizer:
    """Renders a conversation so that it can be read in a test."""

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert add_generation_prompt
        assert not tokenize
        return "".join(f"{m['role']}: {m['content']}\n" for m in messages) + "assistant: "


@pytest.fixture
def texts(monkeypatch):
    """What the model was given to continue; it always continues with " so. th"."""
    texts = []

    def generate(backbone, batch, setting, seed):
        texts.extend(batch)
        return [" so. th"] * len(batch)

    monkeypatch.setattr(sample_answers, "generate", generate)
    three = {name: SETTINGS[name] for name in ("plain", "markdown", "terse")}
    for module in (sample_answers, battles):
        monkeypatch.setattr(module, "SETTINGS", three)
    return texts


BACKBONE = SimpleNamespace(tokenizer=Tokenizer())
TWO = [Prompt("one", "chat", "en", ["Hi"]), Prompt("two", "chat", "en", ["Hi", "And?"])]


def test_answers_go_on_from_openings_and_are_finished(texts, tmp_path):
    answers = sample_answers.answer_all(TWO, BACKBONE, "model", tmp_path)
    assert {key: len(turns) for key, turns in answers.items()} == {
        (p.id, name): len(p.turns) for p in TWO for name in ("plain", "markdown", "terse")
    }
    # "plain" goes back to the end of the sentence, "terse" stays cut off.
    assert answers["two", "plain"] == ["so."] * 2
    assert answers["two", "terse"] == ["so. th"] * 2
    for answer in answers["one", "markdown"] + answers["two", "markdown"]:
        opening = answer.removesuffix(" so. th")
        assert opening in SETTINGS["markdown"].openings
        assert any(text.endswith(f"assistant: {opening}") for text in texts)


def test_a_later_turn_sees_the_earlier_ones(texts, tmp_path):
    sample_answers.answer_all(TWO, BACKBONE, "model", tmp_path)
    system = SETTINGS["terse"].system
    assert f"system: {system}\nuser: Hi\nassistant: " in texts
    later = f"system: {system}\nuser: Hi\nassistant: so. th\nuser: And?\nassistant: "
    assert later in texts
    # "plain" has no system prompt of its own.
    assert "user: Hi\nassistant: so.\nuser: And?\nassistant: " in texts
    # Three settings, and three turns of two prompts.
    assert len(texts) == 9


def test_answers_are_kept_by_content(texts, tmp_path):
    first = sample_answers.answer_all(TWO, BACKBONE, "model", tmp_path)
    texts.clear()
    assert sample_answers.answer_all(TWO, BACKBONE, "model", tmp_path) == first
    assert texts == []
    sample_answers.answer_all(TWO, BACKBONE, "another model", tmp_path)
    assert len(texts) == 9
