"""Votes and ids of a test file, as submit.py, evaluate.py and compare.py use them."""

import json

import numpy as np
import pandas as pd
import pytest

from arena.battle_table import read_battles_table, write_battles
from arena.schema import CLASSES
from common.errors import Code
from common.run_dir import RunDir
from pipelines import evaluate, extract, submit
from tests.helpers.battle_files import lmsys, text
from tests.helpers.errors import error_line


def read(path):
    return pd.read_csv(path, dtype={"id": str})


def evaluation(run):
    return json.loads((run / "evaluation.json").read_text())


def pairs_file(path, n=30):
    """Pairs of two subsets; the last one's answers are equal."""
    rng = np.random.default_rng(3)
    rows = [
        {
            "id": str(7000 + i),
            "prompt": f"question {i} {text(rng, 3)}",
            "chosen": text(rng, 12),
            "rejected": text(rng, 5),
            "subset": "Chat" if i % 2 else "Safety",
        }
        for i in range(n)
    ]
    rows[-1]["rejected"] = rows[-1]["chosen"]
    pd.DataFrame(rows).to_json(path, orient="records", lines=True)
    return path


@pytest.fixture(scope="module")
def with_pairs(trained):
    """The run with pairs as its test set."""
    path = pairs_file(trained.parent / "pairs.jsonl")
    assert extract.command(["--test", str(path), "--run", str(trained)]) == 0
    run = RunDir(trained)
    run.update_record(inputs={"test": {**run.read_record()["inputs"]["test"], "layout": "pairs"}})
    return run


def test_a_submission_of_pairs_also_tells_what_was_chosen(with_pairs, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert submit.command(["--run", str(with_pairs.folder), "--out", str(out)]) == 0
    assert str(tmp_path / "out.chosen.csv") in capsys.readouterr().out
    found, chosen = read(out), read(tmp_path / "out.chosen.csv")
    assert list(chosen) == ["id", "p_chosen", "p_rejected", "p_tie"]
    assert chosen["id"].tolist() == found["id"].tolist() == [str(7000 + i) for i in range(30)]
    battles = read_battles_table(with_pairs.battles("test"))
    for label, p, q in zip(
        battles["label"], found[list(CLASSES)].to_numpy(), chosen.to_numpy()[:, 1:], strict=True
    ):
        if label >= 0:
            assert q.tolist() == p[[label, 1 - label, 2]].tolist()
        else:
            assert q[0] == q[1] == pytest.approx((p[0] + p[1]) / 2)


def test_pairs_are_scored_as_rewardbench_scores_them(with_pairs, tmp_path, capsys):
    rows = pd.read_json(with_pairs.folder.parent / "pairs.jsonl", lines=True, dtype=str)
    rows[["id", "subset"]].to_csv(tmp_path / "by.csv", index=False)
    argv = ["--run", str(with_pairs.folder), "--by", str(tmp_path / "by.csv")]
    assert evaluate.command(argv) == 0
    out = capsys.readouterr().out
    found = evaluation(with_pairs.folder)
    assert found["votes"] == {
        "origin": "the test file",
        "scored": 29,
        "without_vote": 1,
        "set_aside": 0,
    }
    assert "29 battles scored, 1 without a vote, 0 set aside" in out
    assert submit.command(["--run", str(with_pairs.folder), "--out", str(tmp_path / "o.csv")]) == 0
    chosen = read(tmp_path / "o.chosen.csv")[:29]
    right = (chosen["p_chosen"] > chosen["p_rejected"]).to_numpy()
    subset = rows["subset"][:29]
    assert found["pairs"]["chosen_preferred"]["accuracy"] == pytest.approx(right.mean())
    means = [right[subset == name].mean() for name in ("Chat", "Safety")]
    assert found["pairs"]["mean_of_sources"] == pytest.approx(np.mean(means))
    assert f"chosen preferred over rejected      {right.mean():.3f} of 29 pairs" in out
    assert f"  mean of 2 sources                 {np.mean(means):.3f}" in out
    page = (with_pairs.folder / "report.html").read_text()
    assert f"preferred over the rejected one in {right.mean():.3f}" in page
    assert "of 29 pairs" in page


def test_votes_in_the_test_file_need_no_labels(trained, tmp_path, capsys):
    labelled = lmsys(tmp_path / "test.csv", 40, 1)
    table = pd.read_csv(labelled, dtype=str)
    table.loc[3, list(CLASSES)] = "0"
    table.loc[7, "response_a"] = '["never closed'
    table.to_csv(labelled, index=False)
    assert extract.command(["--test", str(labelled), "--run", str(trained)]) == 0
    capsys.readouterr()
    assert evaluate.command(["--run", str(trained)]) == 0
    out = capsys.readouterr().out
    assert "38 battles scored, 1 without a vote, 1 set aside" in out
    own = evaluation(trained)
    table[["id", *CLASSES]].drop(index=3).to_csv(tmp_path / "labels.csv", index=False)
    argv = ["--run", str(trained), "--labels", str(tmp_path / "labels.csv")]
    assert evaluate.command(argv) == 0
    out = capsys.readouterr().out
    assert "not scored: 1 of 39 battles have no vote" in out
    assert evaluation(trained)["log_loss"] == own["log_loss"]
    assert "pairs" not in own


def rename(run, file_ids):
    """Give the test rows of a run these ids of their file."""
    table = read_battles_table(run.battles("test"))
    write_battles(run.battles("test"), table.assign(file_id=file_ids))


def test_the_files_own_ids_are_written_and_matched(trained, tmp_path, capsys):
    labelled = lmsys(tmp_path / "test.csv", 12, 1)
    votes = pd.read_csv(labelled, dtype=str)
    assert extract.command(["--test", str(labelled), "--run", str(trained)]) == 0
    run = RunDir(trained)
    names = ["one", "one", "", *(f"row {i}" for i in range(9))]
    rename(run, names)
    kept = read_battles_table(run.battles("test"))["id"].tolist()
    argv = ["--run", str(trained), "--out", str(tmp_path / "out.csv"), "--explain"]
    assert submit.command(argv) == 0
    shown = ["one", "one", kept[2], *names[3:]]
    assert read(tmp_path / "out.csv")["id"].tolist() == shown
    assert pd.read_parquet(run.explanations)["id"].tolist() == shown

    labels = votes[list(CLASSES)].assign(id=shown)
    labels.drop(index=1).to_csv(tmp_path / "labels.csv", index=False)
    argv = ["--run", str(trained), "--labels", str(tmp_path / "labels.csv")]
    assert evaluate.command(argv) == 0
    assert evaluation(trained)["votes"]["scored"] == 12
    # Two votes of one id that disagree belong to neither of its rows.
    for row in (0, 1):
        labels.loc[row, list(CLASSES)] = [str(int(k == row)) for k in range(3)]
    labels.to_csv(tmp_path / "labels.csv", index=False)
    capsys.readouterr()
    assert evaluate.command(argv) == 2
    assert "one" in error_line(capsys, Code.ID_REPEATED)
