"""Reasons add up to the prediction, swap with the battle, and name the planted cause."""

from dataclasses import replace

import numpy as np
import pytest

from arena.feature_table import Column, FeatureTable, join
from arena.view import KINDS
from embeddings.both_orders import columns as orders
from features import signals
from meta.explain import PLAIN, Reasons, explain, title_of
from meta.stack.stacker import fit_stacker
from meta.votes import labels_of
from tests.helpers.toys import toy_evidence

VIEW = "style"


@pytest.fixture(scope="module", params=[True, False], ids=["with a forest", "boosters alone"])
def trained(request, tmp_path_factory):
    evidence = toy_evidence(300)
    style = evidence.tables["style"]
    families = ["verbosity", "prompt_type", "noise", "noise"]
    columns = {
        name: Column(column.parity, family, column.partner)
        for (name, column), family in zip(style.columns.items(), families, strict=True)
    }
    # As the design matrix has them.
    views = {VIEW: FeatureTable(style.ids, style.values, columns)}
    folds = np.arange(300) // 2 % 3
    work = {"trials": 0, "bags": 1, "storage": tmp_path_factory.mktemp("study") / "study.db"}
    stacker = fit_stacker(
        views, labels_of(evidence.battles), folds, folds, **work, with_forest=request.param
    )
    return stacker, join(views)


def test_contributions_add_up_to_the_log_odds(trained):
    stacker, view = trained
    reasons, raw = explain(stacker, view), stacker.raw(view)
    assert reasons.families == ["noise", "prompt_type", "verbosity"]
    assert reasons.side.sum(axis=1) == pytest.approx(raw[:, 0] - raw[:, 1], abs=1e-6)
    tie = raw[:, 2] - (raw[:, 0] + raw[:, 1]) / 2
    assert reasons.tie.sum(axis=1) + reasons.tie_base == pytest.approx(tie, abs=1e-6)


def test_contributions_by_view_and_by_family_have_the_same_sum(trained):
    stacker, view = trained
    columns = {"one": view.columns[f"{VIEW}.x"], "two": view.columns[f"{VIEW}.size"]}
    parts = [view.values[:, [0, 1]], view.values[:, [2, 3]]]
    family = view.columns[f"{VIEW}.left"].family
    paired = {"left": Column("paired", family, "right"), "right": Column("paired", family, "left")}
    # A name may hold dots, and begin as another one does.
    names = ["a-1", "a-1.5b"]
    both = {
        names[0]: FeatureTable(view.ids, parts[0], columns),
        names[1]: FeatureTable(view.ids, parts[1], paired),
    }
    reasons = explain(replace(stacker, views=tuple(names)), join(both))
    assert reasons.views == names
    assert reasons.view_side.sum(axis=1) == pytest.approx(reasons.side.sum(axis=1))
    assert reasons.view_tie.sum(axis=1) == pytest.approx(reasons.tie.sum(axis=1))
    noise = reasons.families.index("noise")
    assert reasons.view_side[:, 1] == pytest.approx(reasons.side[:, noise])


def test_reasons_of_a_swapped_battle_are_the_swapped_reasons(trained):
    stacker, view = trained
    reasons, swapped = explain(stacker, view), explain(stacker, view.swap())
    np.testing.assert_allclose(swapped.side, -reasons.side, atol=1e-9)
    np.testing.assert_allclose(swapped.tie, reasons.tie, atol=1e-9)


def test_the_planted_causes_weigh_most(trained):
    reasons = explain(*trained)
    weight = dict(zip(reasons.families, np.abs(reasons.side).mean(axis=0), strict=True))
    assert max(weight, key=weight.get) == "verbosity"
    weight = dict(zip(reasons.families, np.abs(reasons.tie).mean(axis=0), strict=True))
    assert max(weight, key=weight.get) == "prompt_type"


def test_words_of_the_position_are_true_of_the_texts_and_of_a_verdict_s_order():
    families = {column.family for column in [*signals.columns().values(), *orders("x").values()]}
    assert families - {"x"} <= {*PLAIN, *KINDS}
    assert title_of("position") == "where the answers part and which is read first"


def test_words_and_table_by_hand():
    side, tie = np.array([[0.5, -0.25, 0.01]]), np.array([[0.0, 0.0, -0.3]])
    by_view = np.array([[0.26]]), np.array([[-0.3]])
    reasons = Reasons(["7"], ["verbosity", "refusal", "new"], side, tie, -1.0, ["style"], *by_view)
    words = "for A: length +0.50, refusals -0.25; for a tie: new -0.30"
    assert reasons.words(0) == words
    frame = reasons.frame()
    assert frame.loc[0, ["id", "side.refusal", "tie.new", "tie.base", "words"]].tolist() == [
        "7",
        -0.25,
        -0.3,
        -1.0,
        words,
    ]
    assert frame.loc[0, ["view.side.style", "view.tie.style"]].tolist() == [0.26, -0.3]
    none = np.zeros((1, 1))
    nothing = Reasons(["7"], ["verbosity"], none, none, 0.0, ["style"], none, none)
    assert nothing.words(0) == "for A: nothing of weight; for a tie: nothing of weight"
