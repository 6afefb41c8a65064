"""The sample that ships with the project: its tables agree with each other and with the code."""

import doctest
import json

import numpy as np
import pandas as pd
import pytest

from arena import sample
from arena.folds import assign_groups
from arena.reader import read_battles
from arena.sample.annotator import annotate
from arena.sample.settings import SETTINGS, Setting
from arena.schema import CLASSES, UNKNOWN

FOLDER = sample.TRAIN.parent
CHANCES = [f"p_{c}" for c in CLASSES]


@pytest.fixture(scope="module")
def train():
    return read_battles(str(sample.TRAIN), labelled=True)


@pytest.fixture(scope="module")
def held_out():
    return read_battles(str(sample.TEST), labelled=False)


@pytest.fixture(scope="module")
def battles(train, held_out):
    """Both splits, indexed by id."""
    return pd.concat([train, held_out]).set_index("id")


@pytest.fixture(scope="module")
def truth():
    return pd.read_csv(sample.TRUTH, dtype={"id": str}).set_index("id")


def prompts():
    return [json.loads(line) for line in (FOLDER / "prompts.jsonl").open(encoding="utf-8")]


def test_every_row_can_be_used_and_test_has_no_votes(battles, held_out):
    assert (battles["reason"] == "").all()
    assert (held_out["label"] == UNKNOWN).all()
    assert (held_out["model_a"] == "").all()


def test_truth_covers_both_splits_and_no_id_comes_twice(train, held_out, truth):
    assert truth.index.is_unique
    assert set(truth.index[truth["split"] == "train"]) == set(train["id"])
    assert set(truth.index[truth["split"] == "test"]) == set(held_out["id"])
    assert len(truth) == len(train) + len(held_out)


def test_truth_is_what_the_annotator_says_today(battles, truth):
    texts = battles.loc[truth.index, ["prompt", "response_a", "response_b"]]
    probabilities = [annotate(*row) for row in texts.itertuples(index=False)]
    # Six decimals are printed.
    np.testing.assert_allclose(truth[CHANCES], probabilities, rtol=0, atol=5.01e-7)


def test_votes_of_truth_are_those_of_train(train, truth):
    votes = truth[list(CLASSES)].to_numpy()
    assert np.isin(votes, [0, 1]).all()
    assert (votes.sum(axis=1) == 1).all()
    assert truth.loc[train["id"], list(CLASSES)].to_numpy().argmax(axis=1).tolist() == (
        train["label"].tolist()
    )


def test_votes_came_as_often_as_their_probabilities_say(truth):
    p = truth[CHANCES].to_numpy()
    surplus = truth[list(CLASSES)].to_numpy().sum(axis=0) - p.sum(axis=0)
    # Within three standard deviations of a sum of independent votes.
    assert (abs(surplus) < 3 * np.sqrt((p * (1 - p)).sum(axis=0))).all()


def test_no_prompt_group_is_in_both_splits(battles, train, held_out):
    groups = assign_groups(battles)
    assert not set(groups[train["id"]]) & set(groups[held_out["id"]])


def test_prompts_have_ids_of_their_own_and_every_battle_has_one_of_them(battles):
    rows = prompts()
    assert len({row["id"] for row in rows}) == len(rows)
    turns = [tuple(row["turns"]) for row in rows]
    assert len(set(turns)) == len(turns)
    # The three pairs of three answers.
    assert sorted(map(tuple, battles["prompt"])) == sorted(turns * 3)


def test_truth_comes_in_the_order_asked_for(truth):
    ids = truth.index[[5, 900, 3, 5]]
    probabilities = sample.truth(pd.Series(ids, index=[7, 7, 1, 0]))
    assert probabilities.dtype == np.float64
    assert probabilities.tolist() == [truth.loc[i, CHANCES].tolist() for i in ids]
    assert sample.truth(pd.Series([], dtype="str")).shape == (0, 3)


def test_truth_of_an_id_that_is_not_of_the_sample(truth):
    with pytest.raises(KeyError, match="no-such-id"):
        sample.truth(pd.Series([truth.index[0], "no-such-id"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  First. \n\nSecond ", "First."),
        ("\n First", "First"),
        ("", ""),
    ],
)
def test_one_line(text, expected):
    assert Setting(one_line=True).finish(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One ends. Two does not", "One ends."),
        ("One ends. Two does!\n", "One ends. Two does!"),
        ('He said "so." And th', 'He said "so."'),
        ("**It ends.** And th", "**It ends.**"),
        ("No sentence here", "No sentence here"),
        # Neither a numbered list nor a number ends a sentence, nor does a full stop in a word.
        ("It is so. 1. Then 2. th", "It is so."),
        ("It is so. See a.b and th", "It is so."),
        ("是的。还有", "是的。"),
    ],
)
def test_whole_sentences(text, expected):
    assert Setting(whole=True).finish(text) == expected


def test_one_line_comes_before_whole_sentences():
    assert Setting(one_line=True, whole=True).finish("One. Two th\nThree.") == "One."


def test_otherwise_only_white_space_at_the_ends_goes():
    assert Setting().finish(" One.\n\nTwo th \n") == "One.\n\nTwo th"


def shipped_answers(train):
    """(setting, turn) of every answer in train.csv."""
    for side in "ab":
        for model, turns in zip(train[f"model_{side}"], train[f"response_{side}"], strict=True):
            yield from ((SETTINGS[model.removeprefix("smollm2-135m-")], turn) for turn in turns)


def test_shipped_answers_are_finished(train):
    for setting, answer in shipped_answers(train):
        assert setting.finish(answer) == answer


def test_shipped_answers_begin_with_an_opening_of_their_setting(train):
    for setting, answer in shipped_answers(train):
        assert any(answer.startswith(opening.strip()) for opening in setting.openings)


def test_every_setting_answered(train):
    names = {f"smollm2-135m-{name}" for name in SETTINGS}
    assert set(train["model_a"]) == set(train["model_b"]) == names


def test_figures_of_the_readme_are_those_that_its_commands_print():
    results = doctest.testfile(str(FOLDER / "README.md"), module_relative=False)
    assert results.attempted > 10
    assert results.failed == 0


def test_readme_names_the_settings():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert rows == list(SETTINGS)
