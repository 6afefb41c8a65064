"""When rows that are set aside end the command."""

import pytest

from arena.battle_rows import ReadOptions
from arena.reader import open_battles
from common.errors import Code, UserError
from tests.helpers.battle_files import NAMES, as_csv, cells, save
from tests.helpers.errors import raises


def intake(tmp_path, content, labelled=True, **options):
    path = save(tmp_path, content)
    with open_battles(path, labelled=labelled, options=ReadOptions(**options)) as file:
        list(file.parts())
        return file.intake


def winners(values):
    rows = [[i, f"Why {i}?", "so", "thus", value] for i, value in enumerate(values)]
    return as_csv(rows, [*NAMES, "winner"])


def test_a_few_strays_are_set_aside_and_told(tmp_path):
    rows = [cells(i, vote=[(1, 0, 0), (0, 1, 0), (0, 0, 1)][i % 3]) for i in range(60)]
    rows[7][2] = '["never closed'
    rows[9][4:] = ["1", "1", "0"]
    rows[12][4:] = ["1", "1", "0"]
    found = intake(tmp_path, as_csv(rows))
    assert (found.rows, found.rejected) == (60, 3)
    assert found.lines() == [
        "votes: A 18, B 19, tie 20",
        "set aside: 2 rows, the first: two winners: winner_model_a, winner_model_b "
        "in row 10 (id 9)",
        "set aside: 1 rows, the first: response_a is not JSON in row 8 (id 7)",
    ]


def test_a_rule_that_hits_more_than_a_tenth_ends_the_command(tmp_path):
    rows = [cells(i) for i in range(60)]
    for row in rows[:7]:
        row[2] = '["never closed'
    with raises(Code.TOO_MANY_REJECTED, match=r"7 of 60 .*row 1 \(id 0\).*--allow-rejects 12%"):
        intake(tmp_path, as_csv(rows))
    assert intake(tmp_path, as_csv(rows), allow_rejects=0.12).rejected == 7
    with raises(Code.TOO_MANY_REJECTED, match="7 rows"):
        intake(tmp_path, as_csv(rows), allow_rejects=0.11)


def test_reasons_that_differ_in_their_values_are_one_rule(tmp_path):
    rows = [cells(i) for i in range(60)]
    for i, row in enumerate(rows[:8]):
        row[1] = str(["p"] * (i + 2))
    with raises(Code.TOO_MANY_REJECTED, match="8 of 60 rows: turn counts differ"):
        intake(tmp_path, as_csv(rows))


def test_a_frequent_value_that_is_no_vote_ends_the_command(tmp_path):
    values = ["a", "b"] * 150 + ["perhaps"] * 5
    with raises(Code.TOO_MANY_REJECTED, match="5 rows of one value .*'perhaps'"):
        intake(tmp_path, winners(values))
    assert intake(tmp_path, winners(values), allow_rejects=0.05).rejected == 5
    # In a test file votes are not needed.
    assert intake(tmp_path, winners(values), labelled=False).rejected == 0


def test_values_that_are_no_votes_here_and_there_are_strays(tmp_path):
    assert intake(tmp_path, winners(["a", "b"] * 150 + ["?", "n/a", "later"])).rejected == 3


def test_a_class_that_is_lost_ends_the_command(tmp_path):
    rows = [cells(i, vote=(1, 0, 0)) for i in range(200)]
    for i, row in enumerate(rows[:6]):
        row[4:] = ["0", "0", "1"]
        row[1] = [str([]), "[", '["a", "b"]'][i % 3]
    with raises(Code.TOO_MANY_REJECTED, match="6 of 6 rows whose vote is tie"):
        intake(tmp_path, as_csv(rows))


@pytest.mark.parametrize("labelled", [True, False])
def test_prompts_that_are_all_empty_are_refused(tmp_path, labelled):
    rows = [[i, '[""]', *cells(i)[2:]] for i in range(6)]
    with raises(Code.PROMPTS_EMPTY, match="battles.csv"):
        intake(tmp_path, as_csv(rows), labelled)


def test_some_empty_prompts_are_counted(tmp_path):
    rows = [cells(i) for i in range(6)]
    rows[2][1] = rows[3][1] = '[""]'
    assert "prompts: 2 are empty" in intake(tmp_path, as_csv(rows)).lines()


def test_rows_without_a_winner_in_a_file_without_ties_may_be_its_ties(tmp_path):
    content = winners([*"ab" * 95, *[""] * 10])
    with raises(Code.TOO_MANY_REJECTED, match="10 rows have no winner"):
        intake(tmp_path, content)
    assert intake(tmp_path, content, allow_rejects=0.05).votes == [95, 95, 0]
    assert intake(tmp_path, winners([*"ab" * 95, "tie", *[""] * 10])).rejected == 10


def test_a_vote_of_an_unknown_name_names_the_option(tmp_path):
    for votes in ("xyz" * 20, "abx" * 20):
        with pytest.raises(UserError, match="--vote-values"):
            intake(tmp_path, winners([*votes]))


def test_blank_prompts_and_empty_answers_are_counted(tmp_path):
    rows = [[i, "\n" if i else "Why?", "" if i > 6 else "so", "thus", "a"] for i in range(9)]
    assert intake(tmp_path, as_csv(rows, [*NAMES, "winner"])).lines() == [
        "votes: A 9, B 0, tie 0",
        "prompts: 8 are empty",
        "answers: 2 rows have an empty one",
    ]


def test_several_rules_that_hit_a_fifth_together_end_the_command(tmp_path):
    rows = [[i, f"Why {i}?", "so", "thus", "ab"[i % 2]] for i in range(100)]
    for i, (cell, text) in enumerate([(4, "x"), (0, "=f()"), (4, "")] * 8):
        rows[4 * i][cell] = text
    with raises(Code.TOO_MANY_REJECTED, match="24 of 101"):
        intake(tmp_path, as_csv([*rows, [100, "Why?", "so", "thus", "tie"]], [*NAMES, "winner"]))
