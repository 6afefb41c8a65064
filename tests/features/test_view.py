"""Signals as a view: in memory, and the same for every run."""

import numpy as np

import features
from arena.in_memory import battle_of, battles_of
from arena.view import kind_named, view_of_run
from common.run_dir import RunDir
from features.view import Signals


def test_transform_gives_the_signals_of_the_battles_and_prints_nothing(capsys):
    rows = [
        {"prompt": f"Question {i}?", "response_a": "Yes.", "response_b": f"No, {i} is right."}
        for i in range(3)
    ]
    battles = battles_of(rows, labelled=False)
    view = Signals().transform(battles)
    assert view.ids == ["0", "1", "2"]
    np.testing.assert_array_equal(view.values, features.extract(battles).values)
    assert capsys.readouterr() == ("", "")


def test_a_run_gives_its_signals_by_their_kind(tmp_path):
    view = view_of_run(RunDir(tmp_path), "style", kind_named("style"), {})
    assert isinstance(view, Signals)
    assert view.name == "style"
    assert view.transform(battle_of("Hi", "a", "b")).values.shape[0] == 1
