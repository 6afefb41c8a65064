"""The command as a user runs it, on files of made-up forecasts."""

import gzip
import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from arena.predictions_file import read_forecasts
from arena.schema import CLASSES
from common.errors import Code
from meta.calibration import METHODS
from meta.metrics.scores import log_loss
from meta.stack.predictions import Predictions
from pipelines import calibrate
from tests.helpers.errors import error_line
from tests.helpers.forecast_files import P, drawn, one_hot, run, table

SWAPPED = np.array([1, 0, 2])
WORDS = np.array(["model_a", "B", "tie (bothbad)"])


@pytest.mark.parametrize(
    ("distort", "kept"),
    [(lambda z: z * 2, "temperature"), (lambda z: z + np.array([0, 0, 1.2]), "bias")],
)
def test_a_known_distortion_is_undone(tmp_path, capsys, distort, kept):
    z, y = drawn(3000)
    p = run(tmp_path, table(softmax(distort(z), axis=1), y))
    assert (np.exp(z) * (z - np.log(p))).sum(1).mean() < 0.002
    out = capsys.readouterr().out
    assert f"kept: {kept}" in out
    for method in METHODS:
        assert re.search(rf"^{method} +\d\.\d{{4}}", out, re.MULTILINE)
    assert "lean  " not in out.split("kept: ")[0]


def test_good_forecasts_are_written_as_they_came(tmp_path, capsys):
    z, y = drawn(2000, seed=1)
    assert run(tmp_path, table(np.exp(z), y)) == pytest.approx(np.exp(z), rel=1e-12)
    out = capsys.readouterr().out
    assert "kept: none" in out
    assert "0.0001, 1.645 standard errors and 3 nats over all rows" in out


def test_what_is_printed_before_is_the_loss_of_the_file(tmp_path, capsys):
    z, y = drawn(800)
    p = softmax(z * 2, axis=1)
    after = run(tmp_path, table(p, y))
    before, told = re.search(
        r"log loss (\S+) before, (\S+) after", capsys.readouterr().out
    ).groups()
    assert float(before) == pytest.approx(log_loss(p, y), abs=6e-5)
    assert log_loss(after, y) < float(told) < float(before)


FORMS = {
    "p_winner + votes": lambda f, y: f.drop(columns="label").join(one_hot(y)),
    "p_winner + label": lambda f, y: f,
    "p_winner + label + votes": lambda f, y: f.join(one_hot(y)),
    "p_winner + words": lambda f, y: f.assign(label=WORDS[y]),
    "p_winner + winner": lambda f, y: f.rename(columns={"label": "winner"}).assign(winner=WORDS[y]),
    "p_winner + float labels": lambda f, y: f.assign(label=y.astype(float)),
    "prob + votes": lambda f, y: (
        f.drop(columns="label")
        .rename(columns=dict(zip(P, ["prob_a", "prob_b", "prob_tie"], strict=True)))
        .join(one_hot(y).astype(float))
    ),
    "p + label": lambda f, y: f.rename(columns=dict(zip(P, ["p_a", "p_b", "p_tie"], strict=True))),
    "a + votes": lambda f, y: (
        f.drop(columns="label")
        .rename(columns=dict(zip(P, ["a", "b", "tie"], strict=True)))
        .join(one_hot(y).astype(bool))
    ),
    "submission + label": lambda f, y: f.rename(columns=dict(zip(P, CLASSES, strict=True))),
    "p + the winner's name": lambda f, y: (
        f.rename(columns=dict(zip(P, ["p_model_a", "p_model_b", "p_tie"], strict=True)))
        .drop(columns="label")
        .assign(model_a="x", model_b="y", preference=np.array(["x", "y", "tie"])[y])
    ),
    "capitals": lambda f, y: f.rename(columns=dict(zip(P, ["A", "B", "Tie"], strict=True))),
    "blanks and hyphens": lambda f, y: f.rename(
        columns=dict(zip(P, ["Prob A", "prob-b", "PROB_TIE"], strict=True)) | {"label": "Label"}
    ),
    "columns in another order": lambda f, y: f[f.columns[::-1]].assign(comment="x"),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Forecasts, labels, and what the plain form of the file becomes."""
    z, y = drawn(600)
    p = softmax(z * 3, axis=1)
    calibrated = run(tmp_path_factory.mktemp("plain"), table(p, y))
    assert np.abs(calibrated - p).max() > 0.1
    return p, y, calibrated


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_columns_says_the_same(form, tmp_path, plain):
    p, y, calibrated = plain
    assert (run(tmp_path, FORMS[form](table(p, y), y)) == calibrated).all()


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv.gz"])
def test_every_format_says_the_same(suffix, tmp_path, plain, capsys):
    p, y, calibrated = plain
    path = tmp_path / f"in.{suffix}"
    frame = table(p, y)
    if suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "jsonl":
        path.write_text("\n".join(json.dumps(r) for r in frame.to_dict("records")))
    else:
        path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    assert calibrate.command(["--probs", str(path)]) == 0
    found = pd.read_csv(tmp_path / "in.calibrated.csv")
    assert (found[list(CLASSES)].to_numpy() == calibrated).all()
    assert str(tmp_path / "in.calibrated.csv") in capsys.readouterr().out


def test_hard_forecasts_beside_a_label_are_forecasts(tmp_path):
    y = np.random.default_rng(0).integers(0, 3, 600)
    said = np.where(np.arange(600) % 4, y, (y + 1) % 3)
    p = run(tmp_path, table(np.eye(3)[said], y, CLASSES))
    assert p.max(axis=1) == pytest.approx(np.full(600, 0.75), abs=0.03)


@pytest.mark.parametrize("unknown", ["", "-1", None])
@pytest.mark.parametrize("votes", [False, True])
def test_rows_without_a_label_are_calibrated_and_not_fitted_on(unknown, votes, tmp_path, plain):
    p, y, calibrated = plain
    names = list(CLASSES) if votes else ["label"]
    frame = table(np.concatenate([p, p[:50]]), np.concatenate([y, y[:50]]))
    if votes:
        frame = frame.drop(columns="label").join(one_hot(np.concatenate([y, y[:50]])))
    frame[names] = frame[names].astype(object)
    frame.loc[600:, names] = unknown
    found = run(tmp_path, frame)
    assert (found[:600] == calibrated).all()
    assert (found[600:] == calibrated[:50]).all()


def test_a_swapped_file_gives_the_swapped_result(tmp_path, plain):
    p, y, calibrated = plain
    swapped = run(tmp_path, table(p[:, [1, 0, 2]], np.array([1, 0, 2])[y]))
    assert swapped[:, [1, 0, 2]] == pytest.approx(calibrated, abs=1e-6)


def test_ids_stay_text(tmp_path):
    z, y = drawn(60)
    frame = table(np.exp(z), y)
    odd = ["001", "1", "1.5", "12345678901234567890123", "=1+1", "a,b", 'a"b', "é", "NA", " x "]
    frame.loc[: len(odd) - 1, "id"] = odd
    run(tmp_path, frame)
    for suffix, write in (("parquet", frame.to_parquet), ("jsonl", None)):
        path = tmp_path / f"odd.{suffix}"
        if write:
            write(path)
        else:
            rows = frame.assign(id=range(10**20, 10**20 + 60)).to_dict("records")
            path.write_text("\n".join(json.dumps(row) for row in rows))
        out = tmp_path / f"odd-{suffix}.csv"
        assert calibrate.command(["--probs", str(path), "--out", str(out)]) == 0
        ids = pd.read_csv(out, dtype=str, keep_default_na=False)["id"].tolist()
        assert ids == (frame["id"].tolist() if write else [str(10**20 + i) for i in range(60)])


def test_whole_floats_in_ids_are_whole_numbers(tmp_path):
    z, y = drawn(60)
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    frame = table(np.exp(z), y).assign(id=np.arange(60.0)).rename(columns={"id": "question_id"})
    frame.to_csv(path, index=False)
    assert calibrate.command(["--probs", str(path), "--out", str(out)]) == 0
    assert pd.read_csv(out, dtype=str)["id"].tolist() == [str(i) for i in range(60)]


def test_logits_say_the_same_as_their_softmax(tmp_path, plain):
    p, y, calibrated = plain
    logits = np.log(p) + np.random.default_rng(0).normal(size=(len(p), 1))
    for names in (P, ("logit_a", "logit_b", "logit_tie")):
        frame = table(logits, y, names)
        assert run(tmp_path, frame, "--logits") == pytest.approx(calibrated)


def test_labels_may_be_said_to_begin_at_1(tmp_path, plain):
    p, y, calibrated = plain
    assert (run(tmp_path, table(p, y + 1), "--labels-from", "1") == calibrated).all()


def test_votes_that_happen_to_be_only_b_and_tie_may_be_said_to_begin_at_0(tmp_path, plain):
    p, y, _ = plain
    numbers = run(tmp_path, table(p, np.where(y == 0, -1, y)), "--labels-from", "0")
    names = np.array(["", "B", "tie"])
    named = run(tmp_path, table(p, y).assign(label=names[y]))
    assert (numbers == named).all()


def test_names_of_two_classes_are_clear(tmp_path, capsys):
    z, y = drawn(300)
    kept = y != 2
    run(tmp_path, table(np.exp(z)[kept], y[kept]).assign(label=WORDS[y[kept]]))
    assert "winner_tie       0.0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "view"), [([], "meta_uncalibrated"), (["--view", "style"], "style")]
)
def test_the_predictions_of_a_run_are_taken_as_they_are(argv, view, tmp_path, plain, capsys):
    p, y, calibrated = plain
    groups = np.array([f"g{i}" for i in range(len(y))])
    ids = [f"r{i}" for i in range(len(y))]
    others = {name: np.full((len(y), 3), 1 / 3) for name in ("style", "meta", "meta_uncalibrated")}
    path = tmp_path / "predictions.parquet"
    Predictions(ids, groups, y, others | {view: p}).write(path)
    assert calibrate.command(["--probs", str(path), *argv]) == 0
    assert f"predictions of {view}\n" in capsys.readouterr().out
    found = pd.read_csv(tmp_path / "predictions.calibrated.csv")
    # Folds are those of the groups: the same method on the same rows.
    assert found[list(CLASSES)].to_numpy() == pytest.approx(calibrated)
    assert found["id"].tolist() == ids


def test_rows_of_one_group_or_prompt_share_a_fold(tmp_path):
    z, y = drawn(60)
    frame = table(np.exp(z), y).assign(
        prompt=[
            f'["Why {i // 3}?", "And then"]' if i % 2 else f'["why {i // 3}"]' for i in range(60)
        ]
    )
    path = tmp_path / "in.csv"

    def groups(frame):
        frame.to_csv(path, index=False)
        return read_forecasts(str(path)).groups

    by_id = groups(frame.drop(columns="prompt"))
    assert len(set(by_id)) == 60
    assert (groups(frame.drop(columns="prompt").iloc[20:]) == by_id[20:]).all()
    by_prompt = groups(frame)
    assert len(set(by_prompt)) == 40
    plain = frame.assign(prompt=[f"  WHY {i // 3} !" for i in range(60)])
    assert (groups(plain)[::2] == by_prompt[::2]).all()
    assert len(set(groups(frame.assign(group=[f"g{i // 10}" for i in range(60)])))) == 6
    assert len(set(groups(frame.assign(prompt="")))) == 60


def test_a_lean_to_one_side_is_told_and_mended_on_request(tmp_path, capsys):
    z, y = drawn(2000)
    frame = table(softmax(z + np.array([0.8, 0, 0]), axis=1), y)
    run(tmp_path, frame)
    told = r"favour A over B by (0\.\d{3}) more than the labels: --asymmetric"
    by = re.search(told, capsys.readouterr().out)[1]
    swapped = [P[1], P[0], P[2]]
    run(tmp_path, frame.rename(columns=dict(zip(P, swapped, strict=True))).assign(label=SWAPPED[y]))
    assert f"favour B over A by {by} more than the labels" in capsys.readouterr().out
    p = run(tmp_path, frame, "--asymmetric")
    assert "kept: lean" in capsys.readouterr().out
    assert (np.exp(z) * (z - np.log(p))).sum(1).mean() < 0.003


def test_drift_of_rounding_is_mended(tmp_path):
    z, y = drawn(300)
    p = run(tmp_path, table(np.exp(z).round(2), y))
    assert p.sum(axis=1) == pytest.approx(1, abs=1e-12)


def test_where_it_writes(tmp_path, capsys, plain):
    p, y, _ = plain
    path, out = tmp_path / "in.csv", tmp_path / "in.calibrated.csv"
    table(p, y).to_csv(path, index=False)
    before = path.read_bytes()
    for argv in (["--out", str(path)], ["--out", str(tmp_path)]):
        assert calibrate.command(["--probs", str(path), *argv]) == 2
        error_line(capsys, Code.OUTPUT_INVALID)
    assert calibrate.command(["--probs", "https://example.org/p.csv"]) == 2
    error_line(capsys, Code.OUTPUT_INVALID)
    assert calibrate.command(["--probs", str(tmp_path / "none.csv")]) == 2
    assert calibrate.command(["--probs", str(path)]) == 0
    written = out.read_bytes()
    assert calibrate.command(["--probs", str(path)]) == 0
    assert out.read_bytes() == written
    out.write_text("mine")
    assert calibrate.command(["--probs", str(path)]) == 2
    assert out.read_text() == "mine"
    assert calibrate.command(["--probs", str(path), "--out", str(out)]) == 0
    assert out.read_bytes() == written
    assert path.read_bytes() == before
    assert sorted(f.name for f in tmp_path.iterdir()) == [out.name, path.name]


def test_help_names_the_forms(capsys):
    with pytest.raises(SystemExit, match="0"):
        calibrate.command(["--help"])
    out = capsys.readouterr().out
    for name in ("prob_a, prob_b, prob_tie", "winner_model_a", "group", "--asymmetric"):
        assert name in out
