"""Columns that are no handcrafted signal of today's code are exchanged by their parity."""

import pytest

from arena.battle_texts import BattleTexts
from meta.audit.exchange import exchange_gap
from meta.stack.stacker import fit_stacker
from meta.votes import labels_of
from tests.helpers.toys import toy_evidence


@pytest.mark.parametrize("name", ["further", "style"])
def test_a_run_without_today_s_signals_has_a_gap_all_the_same(name, tmp_path):
    evidence = toy_evidence(120)
    views = {name: evidence.tables["style"]}
    folds = evidence.battles.index.to_numpy() // 2 % 3
    labels, study = labels_of(evidence.battles), tmp_path / "study.db"
    fusion = fit_stacker(views, labels, folds, folds, trials=0, bags=1, storage=study)
    battles = evidence.battles.assign(model_a="", model_b="")
    assert exchange_gap(fusion, BattleTexts(battles), fusion.design(views)) < 1e-9
