"""Which mistakes are shown, and that their reasons come from models that did not train on them."""

import numpy as np
import pytest
from report_toys import toy_reasons
from toys import toy_evidence

from meta.explain import explain
from meta.fusion import fit_fusion
from meta.report.mistakes import (
    EXPLAINED,
    MISTAKES,
    confident_mistakes,
    importance,
    reasons_unseen,
    some_rows,
)


def test_the_surest_mistake_comes_first_and_right_rows_never():
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.9, 0.05, 0.05], [0.3, 0.3, 0.4]])
    assert confident_mistakes(p, np.array([1, 2, 0, 0])).tolist() == [0, 1, 3]
    many = np.tile(p[:1], (100, 1))
    assert confident_mistakes(many, np.full(100, 2)).tolist() == list(range(MISTAKES))


def test_rows_to_explain_are_all_of_few_and_some_of_many():
    assert some_rows(3).tolist() == [0, 1, 2]
    many = some_rows(10 * EXPLAINED)
    assert len(set(many)) == EXPLAINED
    assert (np.diff(many) > 0).all()
    assert many.tolist() == some_rows(10 * EXPLAINED).tolist()


@pytest.mark.parametrize("bags", [1, 2])
def test_reasons_of_a_row_are_of_the_boosters_that_left_its_fold_out(bags, tmp_path):
    evidence = toy_evidence(150)
    view = evidence.tables["style"]
    labels = evidence.battles["label"].to_numpy(dtype=np.int64)
    folds = 2 * (np.arange(150) // 2 % 3)
    fusion = fit_fusion(
        {"style": view},
        labels,
        folds,
        evidence.battles["group"].to_numpy(),
        trials=0,
        bags=bags,
        storage=tmp_path / "study.db",
    )
    design = fusion.design({"style": view})
    rows = np.array([3, 20, 77, 140])
    found = reasons_unseen(fusion, design.take(rows), folds[rows], np.unique(folds))
    assert found["id"].tolist() == [design.ids[i] for i in rows]
    for i, row in enumerate(rows):
        own = int(np.flatnonzero(np.unique(folds) == folds[row])[0])
        alone = explain(
            fusion.boosters[own * bags : (own + 1) * bags], design.take(rows[i : i + 1])
        )
        assert found["side.style"].iloc[i] == pytest.approx(alone.side[0, 0])
    with pytest.raises(ValueError, match="boosters"):
        reasons_unseen(fusion, design, folds, np.arange(4))


def test_importance_is_the_mean_size_and_the_largest_comes_first():
    class Rows:
        ids = ("a", "b")

    found = importance(toy_reasons(Rows))
    assert found == {
        "verbosity": {"side": 1.0, "tie": 0.0},
        "prompt_type": {"side": 0.0, "tie": 0.5},
    }
    assert list(found) == ["verbosity", "prompt_type"]
