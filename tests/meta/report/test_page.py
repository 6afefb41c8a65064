"""The report escapes what it shows, stands alone, and tells the figures it was given."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from meta.report.page import _confusion, comparison_parts, render
from meta.report.text import clean
from meta.stack.predictions import Predictions
from tests.helpers.report_toys import (
    HOSTILE,
    toy_battles,
    toy_figures,
    toy_predictions,
    toy_reasons,
)


def page(evaluation=None, simulated=False, parts=True):
    predictions = toy_predictions()
    metrics = toy_figures(predictions)
    if not parts:
        del metrics["ablation"], metrics["importance"]
    return render(
        "<run>",
        metrics,
        predictions,
        toy_reasons(predictions) if parts else None,
        [toy_battles(predictions)],
        evaluation,
        file="/home/someone/votes.csv",
        simulated=simulated,
    )


class Elements(HTMLParser):
    """Tags, ids and the addresses that elements name."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.addresses, self.handlers = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.addresses += [v for n, v in attrs if n in ("href", "src", "xlink:href", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


@pytest.fixture(scope="module")
def drawn():
    return page()


@pytest.fixture(scope="module")
def bare():
    """The page of a run without reasons, with a hold-out, of simulated votes."""
    evaluation = toy_figures(toy_predictions(60, 1))
    evaluation["sources"] = {"<s>": evaluation}
    leak = {
        **evaluation["audit"][0],
        "code": "C09",
        "name": "prompt leak",
        "sentence": "It <leaks>.",
    }
    evaluation["audit"] = [leak]
    return page(evaluation, simulated=True, parts=False)


def test_texts_are_shown_and_never_read_as_markup(drawn):
    elements = Elements(drawn)
    assert not {"script", "img", "iframe", "link", "object", "u", "s"} & elements.tags
    assert elements.handlers == []
    assert "&lt;script&gt;document.title" in drawn
    assert "{{ 7 * 7 }}" in drawn
    assert drawn.count("</style>") == 1
    assert "&lt;i&gt;own" in drawn  # the name of a family, in a chart


def test_nothing_is_loaded_and_ids_are_unique(drawn):
    elements = Elements(drawn)
    assert all(address.startswith("#") for address in elements.addresses)
    assert {a[1:] for a in elements.addresses} <= set(elements.ids)
    assert len(elements.ids) == len(set(elements.ids))
    assert not re.search(r"@import|url\((?!#)", drawn)
    assert "default-src 'none'" in drawn


def test_every_text_can_be_written_and_read(drawn):
    drawn.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", drawn)
    assert "␇" in drawn
    assert "97,000 more characters" in drawn
    assert len(drawn) < 1_000_000


def test_the_first_paragraph_says_what_was_scored_and_whether_votes_are_simulated(drawn, bare):
    assert "<b>120 battles</b>" in drawn
    assert "<b>40 different prompts</b>" in drawn
    assert "from votes.csv" in drawn
    assert "someone" not in drawn
    assert "The votes are those of the file.\n" in drawn
    assert "SIMULATED" not in drawn
    assert "SIMULATED" in bare


def test_figures_and_intervals_are_those_of_the_metrics(drawn):
    metrics = toy_figures(toy_predictions())
    low, high = metrics["intervals"]["log_loss"]["style"]
    assert f"{metrics['log_loss']['style']:.4f}<small>{low:.3f}–{high:.3f}</small>" in drawn
    assert 'class="fail"' in drawn
    assert "0.400 to 0.600" in drawn


def test_a_battle_with_two_most_probable_classes_is_in_both_columns_of_the_confusion():
    p = np.array([[0.4, 0.4, 0.2], [0.4, 0.4, 0.2], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6]])
    some = Predictions(list("abcd"), np.arange(4), np.array([0, 1, 0, 1]), {"meta": p})
    rows = [[cell["rows"] for cell in row] for row in _confusion(some)]
    assert rows == [[1.5, 0.5, 0], [0.5, 0.5, 1], [0, 0, 0]]


def test_mistakes_are_the_surest_first_with_their_reasons(drawn):
    predictions = toy_predictions()
    meta, labels = predictions.probabilities["meta"], predictions.labels
    wrong = np.flatnonzero(meta.argmax(axis=1) != labels)
    surest = wrong[np.argsort(-meta[wrong].max(axis=1))[:20]]
    assert re.findall(r"battle (b\d+)<", drawn) == [predictions.ids[i] for i in surest]
    assert drawn.count("<b>for A</b> length <span>+1.00</span>") == 20
    assert drawn.count("<b>against a tie</b> the kind of prompt <span>+0.50</span>") == 20


def test_a_hold_out_is_shown_where_there_is_one(drawn, bare):
    assert 'id="held-out"' in bare
    assert "60 test battles" in bare
    assert "&lt;s&gt;" in bare
    assert 'id="held-out"' not in drawn


def test_slices_and_leaks_of_a_hold_out_are_shown(drawn, bare):
    part = bare.partition('id="held-out"')[2].partition("</section>")[0]
    assert "It &lt;leaks&gt;." in part
    assert '<li class="fail">' in part
    assert "Table of slices of the hold-out" in part
    assert "&lt;b&gt;bold&lt;/b&gt;" in part
    assert "Table of slices of the hold-out" not in drawn


def test_parts_that_a_run_lacks_are_left_out(drawn, bare):
    assert 'id="evidence"' in drawn
    assert 'id="evidence"' not in bare
    assert "No reasons are kept" in bare


def test_the_same_run_gives_the_same_bytes(drawn):
    assert page() == drawn


@pytest.mark.parametrize("text", HOSTILE)
def test_cleaning_twice_changes_nothing_and_keeps_what_can_be_seen(text):
    assert clean(clean(text)) == clean(text)
    assert len(clean(text)) == len(text)
    assert clean("Zürich\n\t你好 👩‍👩‍👧 שלום") == "Zürich\n\t你好 👩‍👩‍👧 שלום"


def test_the_comparison_is_shown_as_architectures_and_as_ablation():
    scores = {"log_loss": 0.9, "brier": 0.5, "ece": 0.02, "accuracy": 0.6}
    behind = {**scores, "hybrid_lower_by": 0.0123, "interval": [0.001, 0.02]}
    parts = comparison_parts(
        {
            "nested": {"frozen": behind, "hybrid without <b>": behind, "hybrid": scores},
            "test": {"frozen": {"log_loss": 0.9876}},
            "strengths": {"frozen": {"right_alone": 0.0777}},
            "stage_one": {"frozen": {"seconds": 1234.5, "seconds_per_1000_rows": 678.9}},
            "stage_two": {
                "frozen": {
                    "rows": 9,
                    "train_seconds": 54.321,
                    "predict_seconds_per_1000_rows": 0.123,
                    "peak_mib": 4321,
                }
            },
            "swap_gap": {"frozen": 3.3e-16, "hybrid": 0.0},
        }
    )
    assert set(parts["architectures"]) == {"frozen", "hybrid"}
    assert parts["ablation"]["<b>"]["lower_by"] == 0.0123
    predictions = toy_predictions()
    figures = {**toy_figures(predictions), **parts}
    drawn = render(
        "r", figures, predictions, None, [toy_battles(predictions)], None, file="", simulated=False
    )
    assert "Right alone" in drawn or "right alone" in drawn
    assert "0.9876" in drawn
    cells = ("1,234", "679", "–", "54.3", "0.12", "4,321", "3e-16")
    row = re.sub(r"\s", "", drawn.partition("Table of the costs")[2].partition("</table>")[0])
    assert "".join(f'<tdclass="n">{cell}</td>' for cell in cells) in row
    assert "without &lt;b&gt;" in drawn
    assert "without <b>" not in drawn
