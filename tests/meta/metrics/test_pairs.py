"""The accuracy on chosen / rejected pairs, by hand."""

import numpy as np
import pytest

from arena.swap import SWAP
from meta.metrics.pairs import best_of_lists, oriented, pair_figures, preferred

P = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.2, 0.7, 0.1]])
LABELS = np.array([0, 1, 0, 1])


def test_the_sides_come_from_the_label():
    assert oriented(P, LABELS)[:2].tolist() == [[0.5, 0.3, 0.2], [0.3, 0.5, 0.2]]


def test_equal_answers_share_what_is_no_tie():
    assert oriented(P[:1], np.array([-1]))[0] == pytest.approx([0.4, 0.4, 0.2])


def test_a_level_forecast_is_half_right():
    assert preferred(P, LABELS).tolist() == [1, 0, 0.5, 1]


def test_who_stands_first_plays_no_part():
    swapped = preferred(P[:, SWAP], SWAP[LABELS])
    assert swapped.tolist() == preferred(P, LABELS).tolist()


def test_of_a_list_the_chosen_answer_must_beat_all():
    right = np.array([1, 1, 1, 0, 1, 0.5, 0.5])
    lists = np.array(["p", "p", "q", "q", "r", "r", "r"])
    best, first = best_of_lists(right, lists)
    assert best == pytest.approx([1, 0, 1 / 3])
    assert first.tolist() == [0, 2, 4]


def test_sources_have_the_same_weight_in_their_mean():
    source = np.array(["x", "y", "y", ""])
    found = pair_figures(P, LABELS, np.array(list("abcd")), np.array(list("1234")), source)
    assert found["chosen_preferred"]["accuracy"] == 2.5 / 4
    assert found["chosen_preferred"]["interval"][0] < 2.5 / 4
    assert {
        name: part["chosen_preferred"]["accuracy"] for name, part in found["sources"].items()
    } == {
        "x": 1.0,
        "y": 0.25,
    }
    assert found["mean_of_sources"] == 0.625
    assert "chosen_best" not in found


def test_of_lists_the_mean_of_sources_counts_prompts():
    ids, source = np.array(["1", "1", "2", "3"]), np.array(["x", "x", "x", "y"])
    found = pair_figures(P, LABELS, ids, ids, source)
    assert found["chosen_best"]["accuracy"] == pytest.approx((0 + 0.5 + 1) / 3)
    assert found["mean_of_sources"] == pytest.approx(((0 + 0.5) / 2 + 1) / 2)
    assert found["sources"]["y"]["chosen_preferred"]["interval"] is None
