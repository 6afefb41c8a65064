"""Which mistakes are shown, and that their reasons are those of the forecast."""

import numpy as np
import pytest

from common.run_dir import RunDir
from meta.report.mistakes import (
    EXPLAINED,
    MISTAKES,
    confident_mistakes,
    importance,
    reasons_unseen,
    some_rows,
)
from meta.stack.nested_cv import CrossValidation, Settings, folds_for, nested
from tests.helpers.report_toys import toy_reasons
from tests.helpers.toys import toy_evidence


def test_the_surest_mistake_comes_first_and_right_rows_never():
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.9, 0.05, 0.05], [0.3, 0.3, 0.4]])
    assert confident_mistakes(p, np.array([1, 2, 0, 0])).tolist() == [0, 1, 3]
    # Of two that are equally likely neither is a mistake, the third is.
    even = np.array([[0.4, 0.4, 0.2]] * 3)
    assert confident_mistakes(even, np.array([0, 1, 2])).tolist() == [2]
    many = np.tile(p[:1], (100, 1))
    assert confident_mistakes(many, np.full(100, 2)).tolist() == list(range(MISTAKES))


def test_rows_to_explain_are_all_of_few_and_some_of_many():
    assert some_rows(3).tolist() == [0, 1, 2]
    many = some_rows(10 * EXPLAINED)
    assert len(set(many)) == EXPLAINED
    assert (np.diff(many) > 0).all()
    assert many.tolist() == some_rows(10 * EXPLAINED).tolist()


def test_reasons_add_up_to_the_forecast_that_they_stand_beside(tmp_path):
    evidence = toy_evidence(150)
    folds = folds_for(evidence, 3)
    cv = CrossValidation(evidence, folds, RunDir(tmp_path))
    scored = nested(cv, Settings(folds=3, trials=0, bags=2))
    rows = np.array([3, 20, 77, 140])
    reasons = reasons_unseen(scored.stackers, scored.design.take(rows), folds[rows])
    assert reasons["id"].tolist() == [scored.design.ids[i] for i in rows]
    a, b, tie = np.log(scored.probabilities["meta_uncalibrated"][rows]).T
    assert reasons.filter(regex=r"^side\.").sum(axis=1).to_numpy() == pytest.approx(a - b, abs=1e-6)
    # tie.base is among them
    ties = reasons.filter(regex=r"^tie\.").sum(axis=1).to_numpy()
    assert ties == pytest.approx(tie - (a + b) / 2, abs=1e-6)


def test_importance_is_the_mean_size_and_the_largest_comes_first():
    class Rows:
        ids = ("a", "b")

    reasons = importance(toy_reasons(Rows))
    assert reasons == {
        "verbosity": {"side": 1.0, "tie": 0.0},
        "prompt_type": {"side": 0.0, "tie": 0.5},
    }
    assert list(reasons) == ["verbosity", "prompt_type"]
