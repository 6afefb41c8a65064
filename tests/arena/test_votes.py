"""Votes under the names that public files give them."""

import pytest

from arena.battle_rows import ReadOptions
from arena.reader import open_battles, read_battles
from arena.schema import TIE, A, B
from common.errors import Code
from tests.helpers.battle_files import NAMES, VOTES, as_csv, save
from tests.helpers.errors import raises


def labels(tmp_path, values, column="winner", models=None, **options):
    header = [*NAMES, column] + (["model_a", "model_b"] if models else [])
    rows = [
        [i, f"Why {i}?", "so", "thus", value, *(models or ())] for i, value in enumerate(values)
    ]
    return read_battles(save(tmp_path, as_csv(rows, header)), labelled=True, **options)


NAMES_OF_SIDES = [
    ("a", "b", "tie"),
    ("A", "B", "C"),
    ("[[A]]", "[[B]]", "[[C]]"),
    ("Model A", "Model B", "Tie"),
    ("model_a", "model_b", "tie (inconsistent)"),
    ("model_1", "model_2", "both good"),
    ("left", "right", "tie"),
    ("leftvote", "rightvote", "bothbad_vote"),
    ("response_a", "response_b", "both_bad"),
    ("Response 1", "Response 2", "Tie (both bad)"),
    ("assistant_a", "assistant_b", "draw"),
    ("response_0", "response_1", "tie"),
    ("a_win", "b_win", "tie"),
    ("Response A is slightly better", "Assistant B wins", "Both are bad"),
    ("1", "2", "tie"),
    ("1.0", "2.0", "Tie"),
    ("0", "1", "both bad"),
    ("[[A>B]]", "B>>A", "A=B"),
]


@pytest.mark.parametrize("names", NAMES_OF_SIDES, ids=[" ".join(names) for names in NAMES_OF_SIDES])
def test_public_names_of_votes(tmp_path, names):
    votes = [A, B, TIE, A, B, TIE, TIE]
    battles = labels(tmp_path, [names[vote] for vote in votes])
    assert battles["label"].tolist() == votes


def test_a_models_own_name_is_a_vote_for_it(tmp_path):
    values = ["gpt-4", "claude", "tie", "gpt-4"]
    battles = labels(tmp_path, values, models=("gpt-4", "claude"))
    assert battles["label"].tolist() == [A, B, TIE, A]


def test_the_name_of_both_models_is_no_vote(tmp_path):
    battles = labels(tmp_path, ["gpt-4", "a"], models=("gpt-4", "gpt-4"))
    assert battles["reason"].tolist() == ["winner is 'gpt-4', not a, b or tie", ""]


@pytest.mark.parametrize("values", [["0", "1", "2"], ["1", "2", "1"], ["-1", "0", "1"]])
def test_numbers_that_do_not_tell_the_tie_are_asked_about(tmp_path, values):
    with raises(Code.VOTES_AMBIGUOUS, match=rf"winner: {values[0]} \(\d\)"):
        labels(tmp_path, values)


def test_the_answer_to_that_question_is_an_option(tmp_path):
    from arena.battle_rows import ReadOptions

    options = ReadOptions(vote_values=("1", "2", "0"))
    battles = labels(tmp_path, ["0", "1", "2", "1.0"], options=options)
    assert battles["label"].tolist() == [TIE, A, B, A]


def test_numbers_in_the_column_label_are_the_classes_in_order(tmp_path):
    assert labels(tmp_path, ["0", "1", "2"], "label")["label"].tolist() == [A, B, TIE]


def test_labels_that_are_never_0_are_asked_about(tmp_path):
    with raises(Code.VOTES_AMBIGUOUS, match="label: 1"):
        labels(tmp_path, ["1", "2", "1"], "label")


def test_such_numbers_in_a_test_file_are_no_votes(tmp_path):
    rows = [[i, "Why?", "so", f"thus {i}", i] for i in range(3)]
    battles = read_battles(save(tmp_path, as_csv(rows, [*NAMES, "winner"])), labelled=False)
    assert battles["label"].tolist() == [-1, -1, -1]


@pytest.mark.parametrize("column", ["overall_preference", "preference_strength"])
def test_strengths_of_helpsteer(tmp_path, column):
    battles = labels(tmp_path, ["-3", "-1", "0", "2", "3.0", "4"], column)
    assert battles["label"].tolist() == [A, A, TIE, B, B, -1]
    assert battles["reason"].tolist()[-1] == f"{column} is '4', not a, b or tie"


def test_strengths_that_are_all_above_0_are_asked_about(tmp_path):
    with raises(Code.VOTES_AMBIGUOUS, match="overall_preference: 3"):
        labels(tmp_path, ["3", "1", "2", "3"], "overall_preference")


def test_fractions_are_soft_labels(tmp_path):
    shares = [(0.2, 0.5, 0.3), (1, 0, 0), (0.5, 0.5, 0), (0.4, 0.2, 0.4), (0.33, 0.33, 0.33)]
    rows = [[i, f"Why {i}?", "so", "thus", *of] for i, of in enumerate(shares)]
    battles = read_battles(save(tmp_path, as_csv(rows)), labelled=True)
    # Where two classes share the largest part it is a tie, so that a swap changes nothing.
    assert battles["label"].tolist() == [B, A, TIE, TIE, TIE]
    soft = battles["soft_label"].tolist()
    assert soft[0] == pytest.approx([0.2, 0.5, 0.3])
    assert soft[1] is None
    assert soft[4] == pytest.approx([1 / 3] * 3)


def test_shares_that_do_not_sum_to_one_are_no_vote(tmp_path):
    rows = [[i, f"Why {i}?", "so", "thus", *of] for i, of in enumerate([(1, 0, 0), (0.5, 0.2, 0)])]
    battles = read_battles(save(tmp_path, as_csv(rows)), labelled=True)
    assert "sum to 0.7" in battles["reason"].tolist()[1]


def test_a_training_file_without_votes_lists_its_columns(tmp_path):
    content = as_csv([["1", "Why?", "so", "thus", "x"]], [*NAMES, "who_won"])
    with raises(Code.VOTES_MISSING, match="who_won"):
        read_battles(save(tmp_path, content), labelled=True)


def test_votes_are_read_from_the_first_set_of_columns(tmp_path):
    row = ["1", "Why?", "so", "thus", "0", "1", "0", "a"]
    battles = read_battles(save(tmp_path, as_csv([row], [*NAMES, *VOTES, "winner"])), labelled=True)
    assert battles["label"].tolist() == [B]


@pytest.mark.parametrize("arms", [("A", "B"), ("model_1", "model_2")])
def test_a_name_of_one_side_and_of_the_other_sides_model_is_no_vote(tmp_path, arms):
    battles = labels(tmp_path, [*arms, "tie"], models=arms)
    assert battles["label"].tolist() == [A, B, TIE]
    battles = labels(tmp_path, [arms[0], "tie"], models=arms[::-1])
    assert battles["label"].tolist() == [-1, TIE]


def test_votes_of_a_test_file_that_cannot_be_read_are_told(tmp_path):
    rows = [[i, "Why?", "so", f"thus {i}", vote] for i, vote in enumerate(["A", "=", "", "="])]
    path = save(tmp_path, as_csv(rows, [*NAMES, "winner"]))
    with open_battles(path, labelled=False) as file:
        list(file.parts())
    assert any("votes: 2 cannot be read" in note and "'=', not" in note for note in file.notes())


@pytest.mark.parametrize("values", [("a",), ("a", "a"), ("a", "b", "c", "d")])
def test_names_of_votes_are_two_or_three(tmp_path, values):
    with raises(Code.OPTION_INVALID, match=values[0]):
        labels(tmp_path, ["a", "b"], options=ReadOptions(vote_values=values))


def test_empty_votes_have_no_winner_in_any_form(tmp_path):
    assert labels(tmp_path, ["a", "", "b"])["reason"].tolist()[1] == "winner is empty: no winner"
    rows = [["1", "Why?", "so", "thus", *of] for of in (("", "", ""), (0, 0, 0), (1, 0, 0))]
    battles = read_battles(save(tmp_path, as_csv(rows)), labelled=True)
    assert battles["reason"].tolist() == [f"no winner in {', '.join(VOTES)}"] * 2 + [""]


def test_what_numbers_are_read_as_is_told(tmp_path):
    rows = [[i, "Why?", "so", f"thus {i}", i % 3] for i in range(6)]
    path = save(tmp_path, as_csv(rows, [*NAMES, "label"]))
    with open_battles(path, labelled=True) as file:
        list(file.parts())
    assert file.notes()[0].startswith("label: 0 is A, 1 is B, 2 is a tie;")
