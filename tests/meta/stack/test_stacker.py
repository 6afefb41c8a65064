"""What a second stage is made of."""

from meta.stack import stacker as module
from meta.stack.lightgbm_model import BASELINE
from meta.stack.stacker import fit_stacker
from meta.votes import labels_of
from tests.helpers.toys import toy_evidence


def test_each_booster_of_a_bag_has_one_of_the_best_trials(tmp_path, monkeypatch):
    best = [{**BASELINE, "num_leaves": leaves} for leaves in (5, 7)]
    monkeypatch.setattr(module, "tune", lambda *_: best)
    evidence = toy_evidence(120)
    battles, study = evidence.battles, tmp_path / "study.db"
    folds = battles.index.to_numpy() // 2 % 3
    labels, groups = labels_of(battles), battles["group"].to_numpy()
    fusion = fit_stacker(evidence.tables, labels, folds, groups, trials=2, bags=3, storage=study)
    assert fusion.params == [best[0], best[1], best[0]]
    assert [b.params["num_leaves"] for b in fusion.boosters] == [5, 7, 5] * 3
    assert len({b.params["seed"] for b in fusion.boosters}) == 3
