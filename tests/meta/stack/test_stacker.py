"""What a second stage is made of."""

import numpy as np

from arena.swap import SWAP
from meta.stack import stacker as module
from meta.stack.lightgbm_model import BASELINE
from meta.stack.stacker import fit_stacker
from meta.votes import labels_of
from tests.helpers.toys import toy_evidence


def test_each_booster_of_a_bag_has_one_of_the_best_trials(tmp_path, monkeypatch):
    best = [{**BASELINE, "num_leaves": leaves} for leaves in (5, 7)]
    monkeypatch.setattr(module, "tune", lambda *_: best)
    evidence = toy_evidence(120)
    battles = evidence.battles
    folds = battles.index.to_numpy() // 2 % 3
    labels, groups = labels_of(battles), battles["group"].to_numpy()
    work = {"trials": 2, "bags": 3, "storage": tmp_path / "study.db"}
    fusion = fit_stacker(evidence.tables, labels, folds, groups, **work, with_forest=False)
    assert fusion.params == [best[0], best[1], best[0]]
    assert [b.params["num_leaves"] for b in fusion.boosters] == [5, 7, 5]
    assert len({b.params["seed"] for b in fusion.boosters}) == 3


def test_the_whole_is_the_pool_of_both_parts(tmp_path):
    evidence = toy_evidence(120)
    battles, folds = evidence.battles, evidence.battles.index.to_numpy() // 2 % 3
    labels, groups = labels_of(battles), battles["group"].to_numpy()
    work = {"trials": 0, "bags": 3, "storage": tmp_path / "study.db"}
    whole, boosters = (
        fit_stacker(evidence.tables, labels, folds, groups, **work, with_forest=forest)
        for forest in (True, False)
    )
    design = whole.design(evidence.tables)
    assert boosters.forest is None
    scores, forest = boosters.raw(design), whole.forest.log_probabilities(design)
    assert np.array_equal(whole.raw(design), whole.pool(scores, forest))
    one_order = whole.one_order(design), whole.one_order(design.swap())[:, SWAP]
    assert np.abs(one_order[0] - one_order[1]).max() > 1e-3
    assert np.array_equal(whole.predict(design.swap())[:, SWAP], whole.predict(design))
