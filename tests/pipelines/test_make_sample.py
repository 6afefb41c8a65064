"""Making the sample: which settings answer, how votes are drawn, and --votes without a model."""

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from arena import sample
from arena.sample.settings import SETTINGS
from arena.schema import CLASSES
from common.errors import UserError
from pipelines import make_sample
from pipelines.make_sample import Battle, Prompt

PROMPTS = make_sample.read_prompts(sample.TRAIN.parent / "prompts.jsonl")
VOTES = 3


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def vote(row):
    return [row[c] for c in CLASSES]


def by_id(path):
    found = {row["id"]: row for row in rows(path)}
    assert len(found) == len(rows(path))
    return found


def no_model(*_, **__):
    raise AssertionError("--votes needs no model")


@pytest.fixture(scope="module")
def redraw(tmp_path_factory):
    """Run --votes N where no model can be loaded; the folder that it wrote."""

    def run(votes):
        out = tmp_path_factory.mktemp("votes") / "new"
        with pytest.MonkeyPatch.context() as patch:
            for name in ("load_config", "model_folder", "load_backbone", "generate"):
                patch.setattr(make_sample, name, no_model)
            assert make_sample.command(["--votes", str(votes), "--out", str(out)]) == 0
        return out

    return run


@pytest.fixture(scope="module")
def redrawn(redraw):
    return redraw(VOTES)


def test_each_training_battle_has_n_rows_and_the_first_is_the_shipped_one(redrawn):
    shipped, found = rows(sample.TRAIN), rows(redrawn / "train.csv")
    ids = [str(int(row["id"]) * VOTES + k) for row in shipped for k in range(VOTES)]
    assert [row["id"] for row in found] == ids
    firsts = [row | {"id": str(int(row["id"]) // VOTES)} for row in found[::VOTES]]
    assert firsts == shipped
    for k in range(1, VOTES):
        same = ["model_a", "model_b", "prompt", "response_a", "response_b"]
        for row, first in zip(found[k::VOTES], firsts, strict=True):
            assert [row[name] for name in same] == [first[name] for name in same]


def test_later_votes_are_not_the_first_again(redrawn):
    found = rows(redrawn / "train.csv")
    same = sum(vote(a) == vote(b) for a, b in zip(found[::VOTES], found[1::VOTES], strict=True))
    truth = [[float(row[f"p_{c}"]) for c in CLASSES] for row in rows(sample.TRUTH)]
    # Two independent votes agree with probability sum p²; within four standard deviations.
    chance = np.square(truth).sum(axis=1).mean()
    count = len(found) // VOTES
    assert abs(same / count - chance) < 4 * np.sqrt(chance * (1 - chance) / count)


def test_the_test_split_stays(redrawn):
    assert (redrawn / "test.csv").read_bytes() == sample.TEST.read_bytes()


def test_truth_of_the_votes_that_were_drawn(redrawn):
    found, shipped = by_id(redrawn / "truth.csv"), by_id(sample.TRUTH)
    train = by_id(redrawn / "train.csv")
    assert set(found) == set(train) | {i for i, r in shipped.items() if r["split"] == "test"}
    for i, row in found.items():
        if row["split"] == "train":
            assert vote(row) == vote(train[i])
            # Six decimals to the last digit.
            assert [row[f"p_{c}"] for c in CLASSES] == [
                shipped[str(int(i) // VOTES)][f"p_{c}"] for c in CLASSES
            ]
        else:
            assert row == shipped[i]


def test_one_vote_is_the_shipped_sample(redraw):
    out = redraw(1)
    assert (out / "train.csv").read_bytes() == sample.TRAIN.read_bytes()
    assert by_id(out / "truth.csv") == by_id(sample.TRUTH)


@pytest.mark.parametrize("spelling", ["default", "dots", "link"])
def test_votes_are_not_written_over_the_shipped_sample(tmp_path, monkeypatch, capsys, spelling):
    # Whatever goes wrong here must not reach the shipped files.
    monkeypatch.setattr(make_sample, "write_sample", no_model)
    folder = sample.TRAIN.parent
    (tmp_path / "link").symlink_to(folder)
    out = {
        "default": [],
        "dots": ["--out", f"{folder}/../{folder.name}"],
        "link": ["--out", str(tmp_path / "link")],
    }
    assert make_sample.command(["--votes", "2", *out[spelling]]) == 2
    error = capsys.readouterr().err
    assert error.startswith("[TB604] ")
    assert "--out DIR" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("votes", ["0", "-1", "x"])
def test_votes_below_one(tmp_path, monkeypatch, capsys, votes):
    monkeypatch.setattr(make_sample, "load_config", no_model)
    with pytest.raises(SystemExit) as stopped:
        make_sample.command(["--votes", votes, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "--votes" in capsys.readouterr().err


def test_figures_that_are_printed(tmp_path, capsys):
    # Two empty answers: probabilities near (1, 1, e^3.5) / (2 + e^3.5), 0.0286 and 0.943.
    battles = [
        Battle(i, "train" if i else "test", ("x", "y"), ["Hm?"], ([""], [""])) for i in range(300)
    ]
    make_sample.write_sample(battles, tmp_path, votes=1)
    printed = capsys.readouterr().out
    assert printed.startswith("299 train and 1 test rows; A / B / tie ")
    shares = [float(s) for s in printed.split("tie ")[1].split(";")[0].split(" / ")]
    labels = [vote(row).index("1") for row in rows(tmp_path / "truth.csv")]
    assert shares == pytest.approx(np.bincount(labels, minlength=3) / 300, abs=5e-4)
    weights = np.exp([0.028, 0, 3.5])
    loss = -np.log(weights / weights.sum())[labels].mean()
    assert float(printed.split()[-1]) == pytest.approx(loss, abs=5e-5)


def battle(i):
    return Battle(i, "train", ("x", "y"), [""], ([""], [""]))


@pytest.mark.parametrize("truth", [[0.5, 0.2, 0.3], [0.05, 0.05, 0.9], [0, 1, 0]])
def test_draws_follow_the_true_probabilities_in_the_long_run(truth):
    many = make_sample.draw(battle(7), np.array(truth), 100_000)
    # Standard deviation at most 0.5 / sqrt(100,000) = 0.0016.
    np.testing.assert_allclose(np.bincount(many, minlength=3) / 1e5, truth, atol=0.0064)
    across = [make_sample.draw(battle(i), np.array(truth), 1)[0] for i in range(10_000)]
    # Standard deviation at most 0.005.
    np.testing.assert_allclose(np.bincount(across, minlength=3) / 1e4, truth, atol=0.02)


def test_draws_are_fixed_by_the_id_and_more_votes_keep_the_first():
    truth = np.array([0.4, 0.3, 0.3])
    ten = make_sample.draw(battle(7), truth, 10)
    assert make_sample.draw(battle(7), truth, 4) == ten[:4]
    assert make_sample.draw(battle(8), truth, 10) != ten


def test_three_settings_answer_each_prompt():
    chosen = [make_sample.evidence_settings(prompt) for prompt in PROMPTS]
    assert all(len(set(names)) == 3 and set(names) <= set(SETTINGS) for names in chosen)
    # Each of eight settings answers 3/8 of 337 prompts, 126 with a standard deviation of 8.9.
    counts = [sum(name in names for names in chosen) for name in SETTINGS]
    assert all(abs(count - 126) < 36 for count in counts)
    # Only the id decides.
    other = replace(PROMPTS[0], kind="", language="", turns=["?"])
    assert make_sample.evidence_settings(other) == chosen[0]


def test_battles_made_of_the_shipped_answers_are_the_shipped_battles():
    shipped = make_sample.shipped_battles()
    ids = {tuple(prompt.turns): prompt.id for prompt in PROMPTS}
    # test.csv does not tell its models, so answers to its prompts are unknown here.
    answers = {(p.id, name): ["?"] for p in PROMPTS for name in make_sample.evidence_settings(p)}
    for one in shipped:
        if one.split == "train":
            for model, response in zip(one.models, one.responses, strict=True):
                answers[ids[tuple(one.prompt)], model.removeprefix("smollm2-135m-")] = response
    made = make_sample.battles_of(PROMPTS, answers)
    assert [b for b in made if b.split == "train"] == [b for b in shipped if b.split == "train"]
    blank = {"models": ("", ""), "responses": ([], [])}
    assert [replace(b, **blank) for b in made if b.split == "test"] == [
        replace(b, **blank) for b in shipped if b.split == "test"
    ]


class Tokenizer:
    """Renders a conversation so that it can be read in a test."""

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert add_generation_prompt
        assert not tokenize
        return "".join(f"{m['role']}: {m['content']}\n" for m in messages) + "assistant: "


@pytest.fixture
def asked(monkeypatch):
    """What the model was given to continue; it always continues with " so. th"."""
    texts = []

    def generate(backbone, batch, setting, seed):
        texts.extend(batch)
        return [" so. th"] * len(batch)

    monkeypatch.setattr(make_sample, "generate", generate)
    three = {name: SETTINGS[name] for name in ("plain", "markdown", "terse")}
    monkeypatch.setattr(make_sample, "SETTINGS", three)
    return texts


BACKBONE = SimpleNamespace(tokenizer=Tokenizer())
TWO = [Prompt("one", "chat", "en", ["Hi"]), Prompt("two", "chat", "en", ["Hi", "And?"])]


def test_answers_go_on_from_openings_and_are_finished(asked, tmp_path):
    answers = make_sample.answer_all(TWO, BACKBONE, "model", tmp_path)
    assert {key: len(turns) for key, turns in answers.items()} == {
        (p.id, name): len(p.turns) for p in TWO for name in ("plain", "markdown", "terse")
    }
    # "plain" goes back to the end of the sentence, "terse" stays cut off.
    assert answers["two", "plain"] == ["so."] * 2
    assert answers["two", "terse"] == ["so. th"] * 2
    for answer in answers["one", "markdown"] + answers["two", "markdown"]:
        opening = answer.removesuffix(" so. th")
        assert opening in SETTINGS["markdown"].openings
        assert any(text.endswith(f"assistant: {opening}") for text in asked)


def test_a_later_turn_sees_the_earlier_ones(asked, tmp_path):
    make_sample.answer_all(TWO, BACKBONE, "model", tmp_path)
    system = SETTINGS["terse"].system
    assert f"system: {system}\nuser: Hi\nassistant: " in asked
    later = f"system: {system}\nuser: Hi\nassistant: so. th\nuser: And?\nassistant: "
    assert later in asked
    # "plain" has no system prompt of its own.
    assert "user: Hi\nassistant: so.\nuser: And?\nassistant: " in asked
    # Three settings, and three turns of two prompts.
    assert len(asked) == 9


def test_answers_are_kept_by_content(asked, tmp_path):
    first = make_sample.answer_all(TWO, BACKBONE, "model", tmp_path)
    asked.clear()
    assert make_sample.answer_all(TWO, BACKBONE, "model", tmp_path) == first
    assert asked == []
    make_sample.answer_all(TWO, BACKBONE, "another model", tmp_path)
    assert len(asked) == 9


def test_prompts_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl cannot be read as prompts"):
        make_sample.read_prompts(tmp_path / "none.jsonl")
    path = tmp_path / "prompts.jsonl"
    for line in ("{", '{"id": "p1"}', "[]"):
        path.write_text(line + "\n")
        with pytest.raises(UserError, match="cannot be read as prompts"):
            make_sample.read_prompts(path)
