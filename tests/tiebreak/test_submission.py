"""The tables of a submission, by hand."""

from pathlib import Path

import numpy as np
import pandas as pd

from tiebreak.submission import chosen_path, chosen_table, submission

BATTLES = pd.DataFrame(
    {"id": ["0", "1", "2"], "file_id": ["9", "9", ""], "label": np.array([1, 0, -1], np.int8)}
)
P = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.375, 0.375, 0.25]])


def test_lmsys_has_three_probabilities_under_the_files_ids():
    table = submission(BATTLES, P, "lmsys")
    assert list(table) == ["id", "winner_model_a", "winner_model_b", "winner_tie"]
    assert table["id"].tolist() == ["9", "9", "2"]
    assert table.iloc[:, 1:].to_numpy().tolist() == P.tolist()


def test_wsdm_names_the_more_probable_model():
    table = submission(BATTLES, P, "wsdm")
    assert list(table) == ["id", "winner"]
    assert table["winner"].tolist() == ["model_a", "model_b", "model_a"]


def test_pairs_are_told_by_what_was_chosen():
    table = chosen_table(BATTLES, P)
    assert table["p_chosen"].tolist() == [0.25, 0.25, 0.375]
    assert table["p_rejected"].tolist() == [0.5, 0.5, 0.375]
    assert chosen_path(Path("a/out.csv")) == Path("a/out.chosen.csv")
