"""The second stage holds the texts of a group of battles at a time, and numbers stay the same."""

import gc
import json

import pandas as pd
import pytest

from arena import battle_table
from arena.reader import read_battles
from arena.schema import TEXTS
from meta.stack.dataset import read_dataset
from pipelines import compare, evaluate, submit, train_meta
from tests.helpers.battle_files import lmsys
from tests.pipelines.test_leaks import handcrafted, votes_of

GROUP, SHOWN = 8, 4
MOST = len(TEXTS) * (2 * GROUP + SHOWN)
"""Texts that may be held at once."""
WORK = ["--trials", "0", "--bags", "1", "--folds", "3", "--no-forest", "--views", "style,lexical"]


class Turns(list):
    """The turns of a text that counts how many there are."""

    alive = most = 0

    def __init__(self, turns):
        super().__init__(turns)
        Turns.alive += 1

    def __del__(self):
        Turns.alive -= 1


@pytest.fixture
def counted(monkeypatch):
    """Every text that is read from a table of battles is counted while it is held."""
    frame = battle_table._frame

    def with_counted_texts(*arguments):
        table = frame(*arguments)
        for name in set(TEXTS) & set(table.columns):
            table[name] = pd.Series(map(Turns, table[name]), table.index, dtype=object)
        if Turns.alive > MOST:
            # Some may be in cycles that nobody holds.
            gc.collect()
        Turns.most = max(Turns.most, Turns.alive)
        return table

    monkeypatch.setattr(battle_table, "_frame", with_counted_texts)
    monkeypatch.setattr("meta.audit.exchange.ROWS", SHOWN)
    monkeypatch.setattr("meta.report.mistakes.MISTAKES", SHOWN)


def commands(folder, monkeypatch, group):
    """A run in groups of so many battles, after every command but compare.py; and test votes."""
    monkeypatch.setattr(battle_table, "GROUP", group)
    train = read_battles(str(lmsys(folder / "train.csv", 60)), labelled=True)
    test = read_battles(str(lmsys(folder / "test.csv", 20, 1)), labelled=True)
    run = handcrafted(folder / "run", train, test)
    name, labels = (
        ["--run", str(run.folder)],
        ["--labels", votes_of(test, folder.parent / "votes.csv")],
    )
    assert train_meta.command([*name, *WORK]) == 0
    assert submit.command(name) == 0
    assert evaluate.command([*name, *labels]) == 0
    return run, labels


@pytest.mark.usefixtures("counted")
def test_two_groups_of_texts_are_held_at_most(tmp_path, monkeypatch):
    Turns.most = 0
    run, labels = commands(tmp_path, monkeypatch, GROUP)
    assert compare.command(["--run", str(run.folder), *WORK, *labels]) == 0
    assert 0 < Turns.most <= MOST
    assert not set(TEXTS) & set(read_dataset(run, "train").battles.columns)


def test_numbers_are_those_of_a_table_in_one_group(tmp_path, monkeypatch):
    runs = []
    for group in (GROUP, 1_000):
        folder = tmp_path / str(group)
        folder.mkdir()
        monkeypatch.setattr("common.parquet.GROUP", group)
        runs.append(commands(folder, monkeypatch, group)[0])
    few, whole = runs
    for file in ("submission.csv", "predictions.parquet", "report.html"):
        assert (few.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file
    for file in ("metrics.json", "evaluation.json"):
        one, other = (json.loads((run.folder / file).read_text()) for run in runs)
        costs = {"seconds": 0, "peak_mib": 0}
        assert one | costs == other | costs, file
