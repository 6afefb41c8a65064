"""The figures of a run as JSON and as a table for the terminal."""

import json

import numpy as np
import pytest

from meta.ablation import HYBRID
from meta.ablation import figures as compared_figures
from meta.report.figures import figures, fixed, table
from meta.report.page import render
from pipelines.compare import table as compared_table
from tests.helpers.report_toys import toy_battles, toy_figures, toy_predictions

NAMES = ("uniform", "prior", "length", "logits-smollm2-135m", "meta_uncalibrated", "meta")


def toy_metrics(groups=None):
    some = toy_predictions(60)
    p = some.probabilities | {"logits-smollm2-135m": some.probabilities["style"]}
    return figures({n: p[n] for n in NAMES}, some.labels, some.groups if groups is None else groups)


def test_a_long_name_moves_no_column_and_nothing_is_minus_zero():
    lines = table(toy_metrics()).splitlines()[:-1]
    assert [line.split()[0] for line in lines[1:]] == list(NAMES)
    ends = {line.index(figure) + 6 for line in lines[1:] for figure in [line.split()[1]]}
    assert ends == {lines[0].index("log loss") + 8}
    assert lines[-2].endswith("   0.0000  [0.0000, 0.0000]")
    assert "-0.0000" not in "".join(lines)
    assert [fixed(x) for x in (-1e-9, -0.5, None)] == ["0.0000", "-0.5000", "–"]


def test_meta_stands_against_every_other_forecast():
    assert set(toy_metrics()["meta_against"]) == set(NAMES) - {"meta"}


def test_the_table_says_that_meta_alone_is_tuned_and_bagged():
    line = "meta: Optuna trials 20, boosters 3, share of the forest 0.55; a view alone: one booster"
    assert line not in table(toy_metrics())
    model = {"trials": 20, "bags": 3, "forest_share": 0.55}
    assert line in table({**toy_metrics(), "model": model}).splitlines()[-1]
    predictions = toy_predictions(60)
    trained = toy_figures(predictions)
    battles = [toy_battles(predictions)]
    page = render("r", trained, predictions, None, battles, None, file="", simulated=False)
    assert "meta: Optuna trials 1, boosters 1" in page
    assert "1 trials, 1 boosters, share of the forest" in page


def test_one_prompt_group_has_no_interval_but_a_dash():
    alone = toy_metrics(np.zeros(60))
    json.dumps(alone, allow_nan=False)
    against = alone["meta_against"]["prior"]
    assert against["low"] is against["high"] is against["share_better"] is None
    line = table(alone).splitlines()[2]
    assert line.endswith(f"   {-against['difference']:.4f}  –")


def test_a_source_of_one_prompt_group_is_shown_without_interval():
    predictions = toy_predictions(60)
    evaluation = toy_figures(predictions)
    evaluation["sources"] = {"lonely": toy_metrics(np.zeros(60))}
    battles = [toy_battles(predictions)]
    page = render("r", evaluation, predictions, None, battles, evaluation, file="", simulated=False)
    row = page.split('<th scope="row">lonely</th>')[1].split("</tr>")[0]
    difference = -evaluation["sources"]["lonely"]["meta_against"]["prior"]["difference"]
    assert row.endswith(f'<td class="n">{difference:.4f}</td>')


def test_the_table_of_a_comparison_knows_dash_and_zero():
    some = toy_predictions(60)
    p = {"frozen": some.probabilities["meta"], HYBRID: some.probabilities["meta"]}
    for groups, line in ((some.groups, "0.0000  [0.0000, 0.0000]"), (np.zeros(60), "0.0000  –")):
        figures_ = compared_figures(p, some.labels, groups)
        json.dumps(figures_, allow_nan=False)
        assert f"   {line}" in compared_table(figures_)
    assert figures_["frozen"]["hybrid_lower_by"] == pytest.approx(0)
