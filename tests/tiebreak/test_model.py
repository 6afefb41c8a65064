"""A trained run as an object: what it says is what the commands write."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from arena.schema import CLASSES
from common.errors import Code
from meta.stack.model_io import signed
from pipelines import submit
from tests.helpers.battle_files import lmsys
from tests.helpers.errors import raises
from tests.helpers.tiny import save_tiny_model
from tiebreak import ReadOptions, Tiebreak
from tiebreak.model import shift_tie_rate

QUICK = {"trials": 0, "bags": 1, "folds": 3}
PAIR = ("Which is green?", "the cat runs because", "1 2 list")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that Python trained, and its files."""
    folder = tmp_path_factory.mktemp("trained")
    backbone = save_tiny_model(folder / "model")
    table = pd.read_csv(lmsys(folder / "train.csv"))
    Tiebreak.train(table, folder / "run", backbone=str(backbone), **QUICK)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return Tiebreak.load(folder / "run")


def test_one_pair_gets_three_probabilities(model):
    probabilities = model.predict_proba(*PAIR)
    assert probabilities.shape == (3,)
    assert probabilities.dtype == np.float64
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert (probabilities > 0).all()


def test_a_swapped_pair_gets_the_swapped_probabilities_exactly(model):
    prompt, a, b = PAIR
    one, other = model.predict_proba(prompt, a, b), model.predict_proba(prompt, b, a)
    assert other.tolist() == one[[1, 0, 2]].tolist()
    same = model.predict_proba(prompt, a, a)
    assert same[0] == same[1]


def test_of_many_pairs_none_differs_in_the_last_bit(model):
    words = PAIR[1].split()
    for i in range(20):
        prompt, a, b = f"Why {i}?", " ".join(words * (i % 5)), f"{i} " + " ".join(words[i % 3 :])
        one, other = model.predict_proba(prompt, a, b), model.predict_proba(prompt, b, a)
        assert other.tolist() == one[[1, 0, 2]].tolist()


def test_turns_may_be_lists(model):
    prompt, a, b = PAIR
    assert np.array_equal(model.predict_proba([prompt], [a], [b]), model.predict_proba(*PAIR))
    several = model.predict_proba([prompt, "and now?"], [a, "yes"], [b, None])
    assert several.shape == (3,)


def test_a_table_says_what_submit_writes(folder, model):
    test = pd.read_csv(lmsys(folder / "test.csv", 12, 1, labelled=False))
    probabilities = model.predict_proba(test)
    run = folder / "with_test"
    shutil.copytree(folder / "run", run)
    from pipelines import extract

    assert extract.command(["--test", str(folder / "test.csv"), "--run", str(run)]) == 0
    assert submit.command(["--run", str(run), "--explain"]) == 0
    submission = pd.read_csv(run / "submission.csv")
    assert submission["id"].tolist() == test["id"].tolist()
    assert np.abs(submission[list(CLASSES)].to_numpy() - probabilities).max() < 1e-6
    written = pd.read_parquet(run / "explanations.parquet")
    reasons = model.explain(test)
    assert list(reasons.columns) == list(written.columns)
    numbers = written.select_dtypes("number").columns
    assert np.abs(reasons[numbers].to_numpy() - written[numbers].to_numpy()).max() < 1e-5


def test_the_order_of_a_table_s_rows_is_kept_and_a_damaged_row_gets_the_prior(folder, model):
    rows = [
        {"prompt": PAIR[0], "response_a": PAIR[1], "response_b": PAIR[2]},
        {"prompt": json.dumps(["a", "b"]), "response_a": json.dumps(["x"]), "response_b": "[]"},
        {"prompt": PAIR[0], "response_a": PAIR[2], "response_b": PAIR[1]},
    ]
    for row in rows[::2]:
        row.update({name: json.dumps([text]) for name, text in row.items()})
    with pytest.warns(UserWarning, match="1 of 3 rows .* row 1: "):
        probabilities = model.predict_proba(rows)
    assert probabilities.shape == (3, 3)
    assert np.allclose(probabilities[0], model.predict_proba(*PAIR), atol=1e-6)
    assert np.array_equal(probabilities[0], probabilities[2][[1, 0, 2]])
    bundle = json.loads((folder / "run" / "model" / "bundle.json").read_text())
    assert probabilities[1].tolist() == bundle["prior"]


def test_no_battles_get_no_probabilities(model):
    assert model.predict_proba([]).shape == (0, 3)


def test_battles_that_cannot_be_used_have_no_reasons(model):
    damaged = {"prompt": ["two", "turns"], "response_a": ["one"], "response_b": ["one"]}
    for table in ([], [damaged]):
        assert model.explain(table).empty


def test_reasons_add_up_to_the_log_odds_of_the_swapped_pair_too(model):
    prompt, a, b = PAIR
    one, other = model.explain(prompt, a, b), model.explain(prompt, b, a)
    side = [name for name in one.columns if name.startswith("side.")]
    assert np.allclose(one[side].to_numpy(), -other[side].to_numpy(), atol=1e-9)
    assert one["words"].iloc[0].startswith("for A: ")


def test_every_view_is_an_object(model):
    table = pd.DataFrame(
        {"prompt": [[PAIR[0]]], "response_a": [[PAIR[1]]], "response_b": [[PAIR[2]]], "id": ["0"]}
    )
    assert {"style", "likelihood", "hidden", "lexical", "davidson"} == set(model.views)
    for name, view in model.views.items():
        features = view.transform(table)
        assert (view.name, features.ids) == (name, ["0"])
        assert features.values.shape == (1, len(features.columns))


def test_the_language_model_is_loaded_once_and_reads_an_answer_once(model, monkeypatch):
    model.predict_proba(*PAIR)
    monkeypatch.setattr("embeddings.frozen.language_model.AnswerReader", None)
    model.predict_proba(*PAIR)


def test_a_second_call_reads_no_file_of_the_run(folder, model, tmp_path):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    loaded = Tiebreak.load(run)
    loaded.predict_proba(*PAIR)
    shutil.rmtree(run)
    others = ("Which is blue?", *PAIR[1:])
    assert np.array_equal(loaded.predict_proba(*others), model.predict_proba(*others))


def test_a_model_of_signals_alone_needs_no_language_model(folder, tmp_path):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    trained = Tiebreak.train(folder / "train.csv", run, views=["style"], **QUICK)
    shutil.rmtree(run / "views")
    (run / "run.json").unlink()
    lines = [
        "import json, sys",
        "sys.modules['transformers'] = None  # it cannot be imported",
        "from tiebreak import ReadOptions, Tiebreak",
        "print(json.dumps(Tiebreak.load(sys.argv[1]).predict_proba(*sys.argv[2:]).tolist()))",
    ]
    printed = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), str(run), *PAIR],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parents[2],
    ).stdout
    assert json.loads(printed) == trained.predict_proba(*PAIR).tolist()


def without(entry, part):
    return {name: value for name, value in entry.items() if name != part}


@pytest.mark.parametrize(
    ("entry", "part", "code"),
    [
        ("fusions", "meta", Code.MODEL_DAMAGED),
        ("kinds", "style", Code.VIEW_KIND_UNKNOWN),
    ],
)
def test_a_model_that_lacks_a_part_is_refused(folder, tmp_path, entry, part, code):
    shutil.copytree(folder / "run" / "model", tmp_path / "model")
    path = tmp_path / "model" / "bundle.json"
    bundle = without(json.loads(path.read_text()), "checksum")
    path.write_text(json.dumps(signed({**bundle, entry: without(bundle[entry], part)})))
    with raises(code):
        Tiebreak.load(tmp_path)


def test_a_model_of_before_kinds_were_written_predicts_the_same(folder, model, tmp_path):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    path = run / "model" / "bundle.json"
    bundle = json.loads(path.read_text())
    del bundle["kinds"], bundle["checksum"]
    path.write_text(json.dumps(signed(bundle)))
    assert np.array_equal(Tiebreak.load(run).predict_proba(*PAIR), model.predict_proba(*PAIR))


def test_the_tie_rate_is_an_input(model):
    own = model.tie_rate
    assert np.allclose(model.predict_proba(*PAIR, tie_rate=own), model.predict_proba(*PAIR))
    assert model.predict_proba(*PAIR, tie_rate=0)[2] == 0
    assert model.predict_proba(*PAIR, tie_rate=1).tolist() == [0, 0, 1]
    with raises(Code.OPTION_INVALID):
        model.predict_proba(*PAIR, tie_rate=1.5)


def test_a_shift_of_the_tie_rate_by_hand():
    shifted = shift_tie_rate(np.array([[0.4, 0.2, 0.4]]), own=0.4, rate=0.25)
    # A and B weigh .75 / .6, the tie .25 / .4: .5, .25 and .25.
    assert shifted == pytest.approx(np.array([[0.5, 0.25, 0.25]]))


def test_mistakes_are_told(model, tmp_path):
    with raises(Code.USAGE):
        model.predict_proba("a prompt alone")
    with raises(Code.USAGE):
        model.predict_proba("a prompt", "one answer")
    with raises(Code.ROW_DAMAGED):
        model.predict_proba(["two", "turns"], ["one"], ["one"])
    with raises(Code.MODEL_MISSING):
        Tiebreak.load(tmp_path / "nowhere")


def test_what_votes_are_called_is_an_option_of_training(folder, tmp_path):
    table = pd.read_csv(folder / "train.csv", dtype={"id": str})
    winner = table[list(CLASSES)].to_numpy().argmax(axis=1).astype(str)
    table = table.drop(columns=list(CLASSES)).assign(winner=winner)
    with raises(Code.VOTES_AMBIGUOUS):
        Tiebreak.train(table, tmp_path / "run", views=["style"], **QUICK)
    reading = ReadOptions(vote_values=("0", "1", "2"))
    options = {"views": ["style"], **QUICK}
    trained = Tiebreak.train(table, tmp_path / "run", reading=reading, **options)
    plain = Tiebreak.train(folder / "train.csv", tmp_path / "plain", **options)
    pair = "What is 2+2?", "4", "22"
    assert trained.predict_proba(*pair).tolist() == plain.predict_proba(*pair).tolist()


def test_a_file_and_a_table_train_the_same_model(folder, model, tmp_path):
    again = Tiebreak.train(
        str(folder / "train.csv"),
        tmp_path / "run",
        backbone=str(folder / "model"),
        **QUICK,
    )
    assert np.array_equal(again.predict_proba(*PAIR), model.predict_proba(*PAIR))
