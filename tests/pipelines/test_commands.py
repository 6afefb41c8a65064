"""The commands as a user runs them, on a tiny random model: fast, and every layer is real."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from arena.schema import CLASSES
from arena.source_column import read_sources
from common.errors import Code
from meta.metrics.scores import log_loss
from meta.stack import nested_cv as stage
from meta.stack import tuning
from meta.stack.predictions import Predictions
from pipelines import compare, evaluate, extract, report, submit, train_meta
from tests.helpers.battle_files import lmsys
from tests.helpers.errors import error_line
from tiebreak import training


def read(path):
    return pd.read_csv(path, dtype={"id": str})


def test_metrics_hold_what_the_contract_asks(trained):
    found = json.loads((trained / "metrics.json").read_text())
    assert found["class_order"] == list(CLASSES)
    assert found["rows"] == 60
    views = {"style", "hidden", "likelihood", "lexical", "davidson"}
    assert {"uniform", "prior", "length", "meta_uncalibrated", "meta"} | views == set(
        found["log_loss"]
    )
    assert found["log_loss"]["uniform"] == pytest.approx(np.log(3))
    assert found["swap_gap"] < 1e-9
    assert "before both orders are averaged" in found["audit"][1]["sentence"]
    assert {"brier", "ece", "accuracy", "auc", "seconds", "groups"} <= set(found)
    for score in ("log_loss", "brier", "ece", "accuracy", "auc"):
        for name, figure in found[score].items():
            low, high = found["intervals"][score][name]
            assert low - 1e-9 <= figure <= high + 1e-9


def test_predictions_are_those_that_were_scored(trained):
    found = json.loads((trained / "metrics.json").read_text())
    kept = Predictions.read(trained / "predictions.parquet")
    assert kept.ids == read(trained.parent / "train.csv")["id"].tolist()
    assert {n: log_loss(p, kept.labels) for n, p in kept.probabilities.items()} == found["log_loss"]
    assert len(set(kept.groups)) == found["groups"]


def test_the_report_shows_the_run_and_is_drawn_again_with_the_same_bytes(trained, capsys):
    page = (trained / "report.html").read_bytes()
    found = json.loads((trained / "metrics.json").read_text())
    assert f"<b>{found['log_loss']['meta']:.4f}</b>".encode() in page
    # Of so few battles no family may weigh anything, which is a reason too.
    assert b"<details" in page
    assert b"No reasons are kept" not in page
    assert report.command(["--run", str(trained)]) == 0
    assert (trained / "report.html").read_bytes() == page
    assert str(trained / "report.html") in capsys.readouterr().out


def test_submission_is_in_the_order_of_the_file_and_sums_to_one(trained):
    found, asked = read(trained / "submission.csv"), read(trained.parent / "test.csv")
    assert list(found.columns) == ["id", *CLASSES]
    assert found["id"].tolist() == asked["id"].tolist()
    assert np.allclose(found[list(CLASSES)].sum(axis=1), 1.0)


def test_views_can_be_chosen_and_a_wrong_name_says_which_there_are(trained, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    argv = ["--run", str(run), "--trials", "0", "--bags", "1", "--views"]
    assert train_meta.command([*argv, "style,hidden"]) == 0
    assert json.loads((run / "model" / "bundle.json").read_text())["learned"] == ["hidden"]
    assert submit.command(["--run", str(run)]) == 0
    assert (run / "model" / "meta" / "forest.safetensors").exists()
    assert json.loads((run / "metrics.json").read_text())["model"]["forest_share"] > 0
    assert train_meta.command([*argv, "style", "--no-forest"]) == 0
    assert not (run / "model" / "meta" / "forest.safetensors").exists()
    assert json.loads((run / "metrics.json").read_text())["model"]["forest_share"] == 0
    capsys.readouterr()
    assert train_meta.command([*argv, "style,smell"]) == 2
    assert "smell" in error_line(capsys, Code.VIEW_MISSING)


@pytest.mark.parametrize("command", [train_meta, compare])
@pytest.mark.parametrize(
    "argument", [["--folds", "0"], ["--folds", "2"], ["--folds", "x"], ["--views", ","]]
)
def test_an_argument_that_cannot_be_is_refused(command, argument, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.command(["--run", str(tmp_path), *argument])
    assert argument[0] in error_line(capsys, Code.USAGE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [train_meta, compare])
@pytest.mark.parametrize("views", ["davidson", "davidson,lexical"])
def test_a_view_that_is_learned_from_others_says_which(command, views, trained, capsys):
    assert command.command(["--run", str(trained), "--views", views]) == 2
    assert "likelihood, style" in error_line(capsys, Code.VIEW_WITHOUT_SOURCE)


def test_of_many_battles_one_fold_is_scored_and_the_figures_say_so(
    trained, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    monkeypatch.setattr(stage, "MANY_ROWS", 50)
    for module in (tuning, training):
        monkeypatch.setattr(module, "TRIAL_ROWS", 40)
    argv = ["--run", str(run), "--trials", "1", "--bags", "1", "--views", "style"]
    assert train_meta.command(argv) == 0
    found = json.loads((run / "metrics.json").read_text())
    assert found["outer_folds"] == {"scored": [0], "of": 5}
    said = f"Scored on one of 5 folds, since there are more than 50 battles: {found['rows']} rows."
    out = capsys.readouterr().out
    assert said in out
    assert "battles: an Optuna trial learns from at most 40 of them" in out
    assert said in (run / "report.html").read_text()


def test_architectures_are_compared_on_training_and_test_battles(trained, tmp_path, capsys):
    votes = pd.read_csv(lmsys(tmp_path / "t.csv", 12, 1))[["id", *CLASSES]]
    votes.to_csv(tmp_path / "votes.csv", index=False)
    argv = ["--run", str(trained), "--labels", str(tmp_path / "votes.csv"), "--folds", "3"]
    argv += ["--views", "style,hidden", "--trials", "1"]
    studies = (trained / "study.db").read_bytes()
    assert compare.command(argv) == 0
    assert (trained / "study.db").read_bytes() == studies
    found = json.loads((trained / "comparison.json").read_text())
    assert {"handcrafted", "frozen", "handcrafted + frozen", "hybrid"} <= set(found["nested"])
    assert set(found["test"]) == set(found["nested"]) == set(found["sets"])
    assert found["stage_one"]["handcrafted"]["seconds"] > 0
    assert found["stage_one"]["frozen"]["peak_mib"] > 100
    assert set(found["stage_two"]) == {"handcrafted", "frozen", "hybrid"}
    for cost in found["stage_two"].values():
        # Two thirds of 60 battles, more or less; an interpreter with its libraries has 100 MiB.
        assert 20 < cost["rows"] < 60
        assert min(cost["train_seconds"], cost["predict_seconds_per_1000_rows"]) > 0
        assert 100 < cost["peak_mib"] < 10_000
    out = capsys.readouterr().out
    assert "12 test battles" in out
    assert "stage two: trained in" in out
    test_loss = f"{found['test']['frozen']['log_loss']:.4f}"

    def page(**changed):
        (trained / "comparison.json").write_text(json.dumps(found | changed))
        assert report.command(["--run", str(trained)]) == 0
        return (trained / "report.html").read_text()

    whole, other = page(), {**found["inputs"], "test": "other"}
    assert "Right alone" in whole
    assert test_loss in whole
    assert "Right alone" in page(inputs=other)
    assert test_loss not in page(inputs=other)
    for changed in ({"model": {"hash": "other"}}, {"inputs": {**found["inputs"], "train": "x"}}):
        drawn = page(**changed)
        assert "Right alone" not in drawn
        assert "Results of compare.py are left out" in drawn
    (trained / "comparison.json").unlink()


def test_reasons_of_every_sound_row(trained, tmp_path):
    argv = ["--run", str(trained), "--out", str(tmp_path / "out.csv"), "--explain"]
    assert submit.command(argv) == 0
    found = pd.read_parquet(trained / "explanations.parquet")
    assert found["id"].tolist() == read(trained / "submission.csv")["id"].tolist()
    assert found["words"].str.startswith("for A: ").all()
    assert {"side.verbosity", "tie.prompt_type", "side.hidden"} <= set(found.columns)
    for question in ("side", "tie"):
        views, families = (found.filter(regex=rf"^{x}{question}\.") for x in (r"view\.", ""))
        assert f"view.{question}.style" in views
        assert np.allclose(
            views.sum(axis=1), families.drop(columns="tie.base", errors="ignore").sum(axis=1)
        )


def test_another_test_set_leaves_the_model_alone_and_a_swap_swaps(trained):
    before = read(trained / "submission.csv")
    bundle = (trained / "model" / "bundle.json").read_bytes()
    asked = pd.read_csv(trained.parent / "test.csv", dtype=str)
    swapped = asked.rename(columns={"response_a": "response_b", "response_b": "response_a"})
    path, out = trained.parent / "swapped.csv", trained.parent / "swapped-out.csv"
    swapped.to_csv(path, index=False)
    assert extract.command(["--test", str(path), "--run", str(trained)]) == 0
    assert submit.command(["--run", str(trained), "--out", str(out)]) == 0
    after = read(out)
    assert (trained / "model" / "bundle.json").read_bytes() == bundle
    unswapped = after[[CLASSES[1], CLASSES[0], CLASSES[2]]].to_numpy()
    assert np.abs(before[list(CLASSES)].to_numpy() - unswapped).max() < 1e-6


def test_damaged_test_rows_get_the_prior_in_their_place(trained, tmp_path):
    table = pd.read_csv(lmsys(tmp_path / "t.csv", 8, 5, labelled=False), dtype=str)
    table.loc[2, "response_a"] = '["never closed'
    table.loc[5, "id"] = table.loc[4, "id"]
    table.to_csv(tmp_path / "t.csv", index=False)
    argv = ["--test", str(tmp_path / "t.csv"), "--run", str(trained)]
    assert extract.command(argv) == 0
    assert submit.command(["--run", str(trained), "--out", str(tmp_path / "out.csv")]) == 0
    found = read(tmp_path / "out.csv")
    prior = json.loads((trained / "model" / "bundle.json").read_text())["prior"]
    assert found.loc[2, list(CLASSES)].to_numpy(dtype=float) == pytest.approx(prior)
    assert len(found) == len(table)
    rejected = pd.read_csv(trained / "battles" / "rejected.csv")
    assert rejected.loc[rejected["split"] == "test", "row"].tolist() == [2]


def test_evaluate_scores_known_votes_and_slices(trained, tmp_path, capsys):
    labelled = lmsys(tmp_path / "test.csv", 40, 1)
    asked = pd.read_csv(labelled, dtype=str)
    asked[["id", *CLASSES]].to_csv(tmp_path / "labels.csv", index=False)
    asked.assign(source=["x"] * 35 + ["y"] * 5)[["id", "source"]].to_csv(
        tmp_path / "by.csv", index=False
    )
    argv = ["--test", str(labelled), "--run", str(trained)]
    assert extract.command(argv) == 0
    argv = ["--run", str(trained), "--labels", str(tmp_path / "labels.csv")]
    assert evaluate.command([*argv, "--by", str(tmp_path / "by.csv")]) == 0
    found = json.loads((trained / "evaluation.json").read_text())
    assert found["rows"] == 40
    assert found["sources"]["x"]["rows"] == 35
    told = "meta: Optuna trials 2, boosters 1, share of the forest "
    assert capsys.readouterr().out.count(told) == 1
    assert "y" not in found["sources"]
    assert [part["rows"] for part in found["slices"]["source"]] == [35, 5]
    assert "40 test battles" in (trained / "report.html").read_text()
    # A model that is not the one that was evaluated.
    (trained / "evaluation.json").write_text(json.dumps(found | {"model": {"hash": "other"}}))
    assert report.command(["--run", str(trained)]) == 0
    assert "40 test battles" not in (trained / "report.html").read_text()
    # Test battles that are not those that were evaluated.
    (trained / "evaluation.json").write_text(json.dumps(found))
    other = lmsys(tmp_path / "other.csv", 12, 2, labelled=False)
    assert extract.command(["--test", str(other), "--run", str(trained)]) == 0
    assert report.command(["--run", str(trained)]) == 0
    drawn = (trained / "report.html").read_text()
    assert "40 test battles" not in drawn
    assert "Results of evaluate.py are left out" in drawn
    capsys.readouterr()
    assert evaluate.command(["--run", str(trained)]) == 2
    assert "--labels" in error_line(capsys, Code.VOTES_MISSING)


def test_sources_become_slices_and_another_file_is_one_line(trained, tmp_path, capsys):
    ids = read(trained.parent / "train.csv")["id"]
    by = pd.DataFrame({"id": ids[:40], "source": ["x"] * 25 + ["y"] * 15})
    by.to_csv(tmp_path / "by.csv", index=False)
    named = read_sources(str(tmp_path / "by.csv"), ids)
    assert named.tolist() == ["x"] * 25 + ["y"] * 15 + [""] * 20
    by.assign(more=1).to_csv(tmp_path / "by.csv", index=False)
    argv = ["--run", str(trained), "--by", str(tmp_path / "by.csv")]
    assert train_meta.command(argv) == 2
    assert "by.csv" in error_line(capsys, Code.COLUMN_MISSING)


def test_dry_run_prints_and_writes_nothing(tmp_path, model_folder, capsys):
    train = lmsys(tmp_path / "train.csv", 10)
    argv = ["--train", str(train), "--run", str(tmp_path / "run"), "--dry-run"]
    assert extract.command([*argv, "--backbone", str(model_folder)]) == 0
    out = capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    for word in ("rows", "turns", "tokens", "memory", "time on this machine"):
        assert word in out


@pytest.mark.parametrize("command", [train_meta, submit, evaluate, report])
def test_a_run_that_is_not_there_is_one_line(command, tmp_path, capsys):
    assert command.command(["--run", str(tmp_path / "none")]) == 2
    missing = {
        submit: Code.MODEL_MISSING,
        evaluate: Code.MODEL_MISSING,
        report: Code.FIGURES_MISSING,
    }
    error_line(capsys, missing.get(command, Code.SPLIT_NOT_EXTRACTED))
