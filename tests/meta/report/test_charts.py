"""Charts tell the figures that they are given."""

import re

import numpy as np

from meta.report.charts import reliability
from meta.stack.predictions import Predictions
from tests.helpers.report_toys import toy_predictions


def points_of(predictions, c):
    return set(re.findall(r"\d+% forecast, \d+% voted", reliability(predictions, c)))


def test_reliability_does_not_depend_on_the_order_of_equal_forecasts():
    some = toy_predictions(90)
    rough = {"meta": some.probabilities["meta"].round(1)}
    order = np.argsort(some.labels, kind="stable")
    rounded = Predictions(some.ids, some.groups, some.labels, rough)
    sorted_ = Predictions(
        [some.ids[i] for i in order],
        some.groups[order],
        some.labels[order],
        {"meta": rough["meta"][order]},
    )
    assert 2 <= len(points_of(rounded, 0)) <= 10
    assert points_of(sorted_, 0) == points_of(rounded, 0)
    flat = Predictions(
        rounded.ids, rounded.groups, rounded.labels, {"meta": np.full((90, 3), 1 / 3)}
    )
    assert len(points_of(flat, 0)) == 1
