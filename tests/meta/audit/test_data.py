"""Checks of the data, each on a file with that fault."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from arena.battle_texts import BattleTexts
from arena.feature_table import Column, FeatureTable
from embeddings.view_kinds import LOGITS
from meta.base_models import BASE_MODELS
from meta.metrics.scores import log_loss
from tests.helpers.audit_toys import COLUMN, COLUMNS, check, toy_case, with_column, with_names


def test_c08_sees_a_drifted_column_and_names_it(case):
    values = case.test_design.values.copy()
    values[:, COLUMN["style.sym"]] += 1.5
    moved = FeatureTable(case.test_design.ids, values, COLUMNS)
    result = check("C08", replace(case, test_design=moved))
    assert result.verdict == "fail"
    assert "distance: style.sym" in result.sentence
    few = replace(
        case,
        test_battles=case.test_battles[:20],
        test_texts=case.test_texts.take(np.arange(20)),
        test_design=moved.take(np.arange(20)),
    )
    assert check("C08", few).verdict == "not applicable"


KINDS_THAT_SAW_VOTES = [*(base_model.kind for base_model in BASE_MODELS.values()), LOGITS]


@pytest.mark.parametrize("kind", KINDS_THAT_SAW_VOTES, ids=lambda kind: kind.name)
def test_c08_leaves_out_views_that_saw_votes(case, kind):
    column = {f"{kind.name}.side": Column("anti")}
    design, test = (
        FeatureTable(
            v.ids, np.column_stack([v.values, np.full(len(v.ids), x)]), {**COLUMNS, **column}
        )
        for v, x in ((case.design, 0.0), (case.test_design, 9.0))
    )
    kinds = {kind.name: kind}
    result = check("C08", replace(case, design=design, test_design=test, kinds=kinds))
    assert result == check("C08", case)


def test_c09_sees_prompts_and_pairs_of_the_training_file(case):
    test = case.test_battles.copy()
    test.loc[0, "prompt"] = [["  question NUMBER 7"]]
    for one, other in (("response_a", "response_b"), ("response_b", "response_a")):
        test[one] = [case.battles[other][5], *test[one][1:]]
    result = check("C09", replace(case, test_texts=BattleTexts(test)))
    assert (result.verdict, result.figure) == ("pass", pytest.approx(1 / 300))
    test["prompt"] = [["Question number 7"]] * 30 + test["prompt"].tolist()[30:]
    result = check("C09", replace(case, test_texts=BattleTexts(test)))
    assert (result.verdict, result.figure) == ("fail", pytest.approx(0.1))
    assert "30 by their prompt, 1 by their pair" in result.sentence


def twins(case, same):
    """The case with its first 100 battles once more, swapped, with the same vote or another."""
    extra = case.battles[:100].rename(
        columns={"response_a": "response_b", "response_b": "response_a"}
    )
    vote = np.array([1, 0, 2])[case.labels[:100]]
    table = pd.concat([case.battles, extra], ignore_index=True)
    return replace(
        case,
        battles=with_names(table),
        texts=BattleTexts(table),
        labels=np.concatenate([case.labels, vote if same else (vote + 1) % 3]),
        folds=None,
    )


def test_c10_compares_votes_of_swapped_twins_in_one_order(case):
    result = check("C10", twins(case, same=True))
    assert (result.verdict, result.figure) == ("pass", 0.0)
    result = check("C10", twins(case, same=False))
    assert (result.verdict, result.figure) == ("fail", pytest.approx(200 / 1300))
    assert "differ in 100% of the pairs" in result.sentence


def test_c10_bounds_the_log_loss_from_below():
    """Votes drawn from .5, .3, .2: the bound lies below the entropy, and not far below."""
    small = toy_case(60, test=0)
    table = pd.concat([small.battles, *[small.battles[:1]] * 1999], ignore_index=True)
    votes = np.random.default_rng(0).choice(3, 2000, p=[0.5, 0.3, 0.2])
    labels = np.concatenate([votes[:1], small.labels[1:], votes[1:]])
    sentence = check(
        "C10", replace(small, battles=table, texts=BattleTexts(table), labels=labels, folds=None)
    ).sentence
    assert "interval" not in sentence  # all twins are of one group
    bound = float(sentence.split("log loss below ")[1].split()[0].rstrip("."))
    entropy = log_loss(np.tile([0.5, 0.3, 0.2], (2000, 1)), votes)
    assert entropy - 0.1 < bound < entropy


def test_c15_sees_dead_views_lost_columns_and_infinities(case):
    constant = with_column(case, "style.sym", 3.0)
    result = check("C15", constant)
    assert (result.verdict, result.figure, result.threshold) == ("pass", 0, 0)
    assert f"1 of {len(COLUMNS)} columns" in result.sentence
    assert "style.sym" in result.sentence
    zeros = FeatureTable(case.design.ids, np.zeros_like(case.design.values), COLUMNS)
    assert "view style is dead" in check("C15", replace(case, design=zeros)).sentence
    lost = case.test_design.values.copy()
    lost[:, COLUMN["style.sym"]] = np.nan
    test = FeatureTable(case.test_design.ids, lost, COLUMNS)
    assert "style.sym is missing in test" in check("C15", replace(case, test_design=test)).sentence
    result = check("C15", with_column(case, "style.sym", np.inf))
    assert (result.verdict, result.figure) == ("fail", 1)


def test_c15_lets_a_column_be_defined_for_few_prompts(case):
    few = np.full(1200, np.nan)
    few[:2] = 1.0
    values = case.test_design.values.copy()
    values[:, COLUMN["style.sym"]] = np.nan
    test = FeatureTable(case.test_design.ids, values, COLUMNS)
    rare = replace(with_column(case, "style.sym", few), test_design=test)
    assert check("C15", rare).verdict == "pass"
