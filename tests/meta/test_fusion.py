"""What a second stage is made of."""

import pytest
from scipy.special import softmax
from toys import toy_evidence

from meta import fusion as module
from meta.evidence import labels_of
from meta.fusion import fit_fusion, surely_better
from meta.gbm import BASELINE, BothOrders, cross_validate
from meta.scores import log_loss

POOR = {**BASELINE, "lambda_l2": 1e5}
"""Trees of these parameters say next to nothing."""


@pytest.fixture(scope="module")
def toy():
    """View, labels, folds, groups."""
    evidence = toy_evidence(400)
    battles = evidence.battles
    folds = battles.index.to_numpy() // 2 % 3
    return evidence.tables["style"], labels_of(battles), folds, battles["group"].to_numpy()


@pytest.mark.parametrize("baseline", [BASELINE, POOR])
@pytest.mark.parametrize("tuned", [BASELINE, POOR])
def test_the_best_trial_is_kept_where_it_is_surely_better(
    toy, baseline, tuned, tmp_path, monkeypatch
):
    view, *rest = toy
    monkeypatch.setattr(module, "BASELINE", baseline)
    monkeypatch.setattr(module, "tune", lambda *_: dict(tuned))
    study = tmp_path / "study.db"
    fusion = fit_fusion({"style": view}, *rest, trials=1, bags=1, storage=study)
    assert fusion.params == (BASELINE if BASELINE in (baseline, tuned) else POOR)


def test_a_gain_that_may_be_luck_is_not_enough(toy):
    view, labels, folds, groups = toy
    data = BothOrders(view, labels)

    def loss(params):
        return log_loss(softmax(cross_validate(data, folds, params).raw, axis=1), labels)

    best = min(({**BASELINE, "lambda_l2": x} for x in (3.0, 4.0, 6.0, 8.0)), key=loss)
    assert loss(best) < loss(BASELINE)
    assert surely_better(data, folds, groups, best) == BASELINE
