"""Redrawing the votes of the sample, without a model."""

import csv

import numpy as np
import pytest

from arena import sample
from arena.schema import CLASSES
from common.errors import Code
from pipelines import make_sample
from tests.helpers.errors import error_line

VOTES = 3


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def vote(row):
    return [row[c] for c in CLASSES]


def by_id(path):
    found = {row["id"]: row for row in rows(path)}
    assert len(found) == len(rows(path))
    return found


def no_model(*_, **__):
    raise AssertionError("--votes needs no model")


@pytest.fixture(scope="module")
def redraw(tmp_path_factory):
    """Run --votes N where no model can be loaded; the folder that it wrote."""

    def run(votes):
        out = tmp_path_factory.mktemp("votes") / "new"
        with pytest.MonkeyPatch.context() as patch:
            for name in ("load_config", "model_folder", "load_backbone", "answer_all"):
                patch.setattr(make_sample, name, no_model)
            assert make_sample.command(["--votes", str(votes), "--out", str(out)]) == 0
        return out

    return run


@pytest.fixture(scope="module")
def redrawn(redraw):
    return redraw(VOTES)


def test_each_training_battle_has_n_rows_and_the_first_is_the_shipped_one(redrawn):
    shipped, found = rows(sample.TRAIN), rows(redrawn / "train.csv")
    ids = [str(int(row["id"]) * VOTES + k) for row in shipped for k in range(VOTES)]
    assert [row["id"] for row in found] == ids
    firsts = [row | {"id": str(int(row["id"]) // VOTES)} for row in found[::VOTES]]
    assert firsts == shipped
    for k in range(1, VOTES):
        same = ["model_a", "model_b", "prompt", "response_a", "response_b"]
        for row, first in zip(found[k::VOTES], firsts, strict=True):
            assert [row[name] for name in same] == [first[name] for name in same]


def test_later_votes_are_not_the_first_again(redrawn):
    found = rows(redrawn / "train.csv")
    same = sum(vote(a) == vote(b) for a, b in zip(found[::VOTES], found[1::VOTES], strict=True))
    truth = [[float(row[f"p_{c}"]) for c in CLASSES] for row in rows(sample.TRUTH)]
    # Two independent votes agree with probability sum p²; within four standard deviations.
    chance = np.square(truth).sum(axis=1).mean()
    count = len(found) // VOTES
    assert abs(same / count - chance) < 4 * np.sqrt(chance * (1 - chance) / count)


def test_the_test_split_stays(redrawn):
    assert (redrawn / "test.csv").read_bytes() == sample.TEST.read_bytes()


def test_truth_of_the_votes_that_were_drawn(redrawn):
    found, shipped = by_id(redrawn / "truth.csv"), by_id(sample.TRUTH)
    train = by_id(redrawn / "train.csv")
    assert set(found) == set(train) | {i for i, r in shipped.items() if r["split"] == "test"}
    for i, row in found.items():
        if row["split"] == "train":
            assert vote(row) == vote(train[i])
            # Six decimals to the last digit.
            assert [row[f"p_{c}"] for c in CLASSES] == [
                shipped[str(int(i) // VOTES)][f"p_{c}"] for c in CLASSES
            ]
        else:
            assert row == shipped[i]


def test_one_vote_is_the_shipped_sample(redraw):
    out = redraw(1)
    assert (out / "train.csv").read_bytes() == sample.TRAIN.read_bytes()
    assert by_id(out / "truth.csv") == by_id(sample.TRUTH)


@pytest.mark.parametrize("spelling", ["default", "dots", "link"])
def test_votes_are_not_written_over_the_shipped_sample(tmp_path, monkeypatch, capsys, spelling):
    # Whatever goes wrong here must not reach the shipped files.
    monkeypatch.setattr(make_sample, "write_sample", no_model)
    folder = sample.TRAIN.parent
    (tmp_path / "link").symlink_to(folder)
    out = {
        "default": [],
        "dots": ["--out", f"{folder}/../{folder.name}"],
        "link": ["--out", str(tmp_path / "link")],
    }
    assert make_sample.command(["--votes", "2", *out[spelling]]) == 2
    assert "--out DIR" in error_line(capsys, Code.OUTPUT_INVALID)


@pytest.mark.parametrize("votes", ["0", "-1", "x"])
def test_votes_below_one(tmp_path, monkeypatch, capsys, votes):
    monkeypatch.setattr(make_sample, "load_config", no_model)
    with pytest.raises(SystemExit) as stopped:
        make_sample.command(["--votes", votes, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "--votes" in error_line(capsys, Code.USAGE)
