import json

import numpy as np
import pandas as pd
import pytest

from meta.metrics.scores import classwise_ece, clustered, decisive_auc, ece_by_chance, log_loss
from meta.metrics.slices import name_slices, score_families, score_slices


def table(rows):
    return pd.DataFrame(rows, columns=["prompt", "response_a", "response_b"])


def test_names_by_hand():
    families = name_slices(
        [
            table(
                [
                    [["Write a python function that adds"], ["a" * 100], ["b" * 100]],
                    [["Solve this equation: x + 1 = 3"], ["a" * 299], [None]],
                    [["Write a poem about the sea", "Go on"], ["a" * 800], ["b" * 1600]],
                    [["How tall is it?"] * 5, ["a" * 4000], ["b" * 3001]],
                    [[], [], []],
                ]
            )
        ],
        votes=np.array([0, 1, 2, 0, 1]),
        source=np.array(["x", "y", "x", "y", "x"]),
    )
    assert families["winner"].tolist() == ["A won", "B won", "tie", "A won", "B won"]
    assert families["length"].tolist() == [
        "under 300 characters",
        "under 300 characters",
        "1,000 to 3,000 characters",
        "3,000 characters and more",
        "under 300 characters",
    ]
    assert families["length gap"].tolist() == [
        "under 1.25 times",
        "2 times and more",
        "1.25 to 2 times",
        "1.25 to 2 times",
        "under 1.25 times",
    ]
    # The last turn is what is asked.
    assert families["prompt type"].tolist() == ["code", "maths", "other", "short question", "other"]
    assert families["turns"].tolist() == ["1", "1", "2", "3 and more", "1"]
    assert families["source"].tolist() == ["x", "y", "x", "y", "x"]


def test_rare_languages_are_one_slice():
    english = [["Please tell me about the history of the town where you live"], ["a"], ["b"]]
    german = [["Bitte erzähle mir etwas über die Geschichte deiner Stadt"], ["a"], ["b"]]
    none = [["1 + 1"], ["2"], ["3"]]
    families = name_slices([table([english] * 40 + [german] * 5 + [none] * 35)])["language"]
    assert families.tolist() == ["en"] * 40 + ["other"] * 40


def test_every_battle_is_in_one_slice_and_the_order_does_not_matter():
    rng = np.random.default_rng(0)
    battles = table(
        [
            [[f"What is {i}?"] * rng.integers(1, 5), ["a" * rng.integers(0, 5000)], ["b"]]
            for i in range(90)
        ]
    )
    families, back = name_slices([battles]), name_slices([battles[::-1]])
    for family, names in families.items():
        assert names.shape == (90,)
        assert (names != "").all()
        assert back[family][::-1].tolist() == names.tolist()


def test_scores_of_a_slice_are_those_of_its_rows():
    rng = np.random.default_rng(0)
    p, y, groups = rng.dirichlet([1, 1, 1], 60), rng.integers(0, 3, 60), np.arange(60) // 2
    names = np.array(["large"] * 40 + ["small"] * 20)
    large, small = score_slices(p, y, groups, names)
    assert (large.name, large.rows, large.groups) == ("large", 40, 20)
    assert small.log_loss == pytest.approx(log_loss(p[40:], y[40:]))
    assert large.intervals["log_loss"][0] < large.log_loss < large.intervals["log_loss"][1]
    assert small.auc == decisive_auc(p[40:], y[40:])
    assert small.tie_share == (y[40:] == 2).mean()
    assert small.ece == classwise_ece(p[40:], y[40:])


def test_steps_of_length_are_told_from_short_to_long_and_others_by_size():
    p, y, groups = np.full((6, 3), 1 / 3), np.array([0, 1, 2] * 2), np.arange(6)
    steps = np.array(["3,000 characters and more"] * 3 + ["under 300 characters"] * 3)
    assert [s.name for s in score_slices(p, y, groups, steps)] == sorted(set(steps), reverse=True)
    others = np.array(["a", "b", "b", "c", "c", "c"])
    assert [s.name for s in score_slices(p, y, groups, others)] == ["c", "b", "a"]


def test_a_slice_of_one_group_has_no_interval_and_all_is_json():
    p, y = np.full((3, 3), 1 / 3), np.array([0, 1, 2])
    families = score_families(p, y, np.array(["g", "g", "h"]), {"f": np.array(["x", "x", "y"])})
    assert [score["intervals"]["log_loss"] for score in families["f"]] == [None, None]
    assert [score["auc"] for score in families["f"]] == [0.5, None]
    json.dumps(families, allow_nan=False)


def test_clustered_error_by_hand():
    mean, error = clustered(np.array([0.0, 0.0, 3.0]), np.array(["g", "g", "h"]))
    assert mean == 1.0
    assert error == pytest.approx(np.sqrt(2 / 1 * (2**2 + 2**2)) / 3)
    assert clustered(np.array([1.0, 2.0]), np.array([0, 0]))[1] == float("inf")


@pytest.mark.parametrize("copies", [1, 4])
def test_ece_by_chance_is_what_calibrated_forecasts_show(copies):
    rng = np.random.default_rng(0)
    shown, expected = [], []
    for _ in range(60):
        p = rng.dirichlet([3, 3, 2], 400 // copies)
        y = (np.log(p) + rng.gumbel(size=p.shape)).argmax(axis=1)
        p, y = np.repeat(p, copies, axis=0), np.repeat(y, copies)
        groups = np.arange(400) // copies
        shown.append(classwise_ece(p, y))
        expected.append(ece_by_chance(p, y, groups))
    mean, deviation = np.mean(expected, axis=0)
    assert mean == pytest.approx(np.mean(shown), rel=0.1)
    assert 0.8 * np.std(shown) < deviation < 2 * np.std(shown)
