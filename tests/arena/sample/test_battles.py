"""Battles of the sample: which settings answer, how votes are drawn, what the tables hold."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from arena import sample
from arena.sample import battles
from arena.sample.battles import Battle
from arena.sample.settings import SETTINGS
from arena.schema import CLASSES
from common.errors import Code
from tests.helpers.errors import raises

PROMPTS = battles.read_prompts(sample.TRAIN.parent / "prompts.jsonl")


def votes(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [[row[c] for c in CLASSES].index("1") for row in csv.DictReader(file)]


def test_figures_that_are_printed(tmp_path, capsys):
    # Two empty answers: probabilities near (1, 1, e^3.5) / (2 + e^3.5), 0.0286 and 0.943.
    table = [
        Battle(i, "train" if i else "test", ("x", "y"), ["Hm?"], ([""], [""])) for i in range(300)
    ]
    battles.write_sample(table, tmp_path, votes=1)
    printed = capsys.readouterr().out
    assert printed.startswith("299 train and 1 test rows; A / B / tie ")
    shares = [float(s) for s in printed.split("tie ")[1].split(";")[0].split(" / ")]
    labels = votes(tmp_path / "truth.csv")
    assert shares == pytest.approx(np.bincount(labels, minlength=3) / 300, abs=5e-4)
    weights = np.exp([0.028, 0, 3.5])
    loss = -np.log(weights / weights.sum())[labels].mean()
    assert float(printed.split()[-1]) == pytest.approx(loss, abs=5e-5)


def battle(i):
    return Battle(i, "train", ("x", "y"), [""], ([""], [""]))


@pytest.mark.parametrize("truth", [[0.5, 0.2, 0.3], [0.05, 0.05, 0.9], [0, 1, 0]])
def test_draws_follow_the_true_probabilities_in_the_long_run(truth):
    many = battles.draw(battle(7), np.array(truth), 100_000)
    # Standard deviation at most 0.5 / sqrt(100,000) = 0.0016.
    np.testing.assert_allclose(np.bincount(many, minlength=3) / 1e5, truth, atol=0.0064)
    across = [battles.draw(battle(i), np.array(truth), 1)[0] for i in range(10_000)]
    # Standard deviation at most 0.005.
    np.testing.assert_allclose(np.bincount(across, minlength=3) / 1e4, truth, atol=0.02)


def test_draws_are_fixed_by_the_id_and_more_votes_keep_the_first():
    truth = np.array([0.4, 0.3, 0.3])
    ten = battles.draw(battle(7), truth, 10)
    assert battles.draw(battle(7), truth, 4) == ten[:4]
    assert battles.draw(battle(8), truth, 10) != ten


def test_three_settings_answer_each_prompt():
    chosen = [battles.settings_of(prompt) for prompt in PROMPTS]
    assert all(len(set(names)) == 3 and set(names) <= set(SETTINGS) for names in chosen)
    # Each of eight settings answers 3/8 of 337 prompts, 126 with a standard deviation of 8.9.
    counts = [sum(name in names for names in chosen) for name in SETTINGS]
    assert all(abs(count - 126) < 36 for count in counts)
    # Only the id decides.
    other = replace(PROMPTS[0], kind="", language="", turns=["?"])
    assert battles.settings_of(other) == chosen[0]


def test_battles_made_of_the_shipped_answers_are_the_shipped_battles():
    shipped = battles.shipped_battles()
    ids = {tuple(prompt.turns): prompt.id for prompt in PROMPTS}
    # test.csv does not tell its models, so answers to its prompts are unknown here.
    answers = {(p.id, name): ["?"] for p in PROMPTS for name in battles.settings_of(p)}
    for one in shipped:
        if one.split == "train":
            for model, response in zip(one.models, one.responses, strict=True):
                answers[ids[tuple(one.prompt)], model.removeprefix("smollm2-135m-")] = response
    made = battles.battles_of(PROMPTS, answers)
    assert [b for b in made if b.split == "train"] == [b for b in shipped if b.split == "train"]
    blank = {"models": ("", ""), "responses": ([], [])}
    assert [replace(b, **blank) for b in made if b.split == "test"] == [
        replace(b, **blank) for b in shipped if b.split == "test"
    ]


def test_prompts_that_cannot_be_read(tmp_path):
    with raises(Code.INPUT_UNREADABLE, match=r"none\.jsonl"):
        battles.read_prompts(tmp_path / "none.jsonl")
    path = tmp_path / "prompts.jsonl"
    for line in ("{", '{"id": "p1"}', "[]"):
        path.write_text(line + "\n")
        with raises(Code.INPUT_UNREADABLE):
            battles.read_prompts(path)
