"""Signals and embeddings of battles without a run."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from arena.in_memory import battles_of
from embeddings.backbone.config import load_config
from embeddings.frozen.language_model import LanguageModel
from features.extraction import extract
from tests.helpers.tiny import save_tiny_model
from tiebreak import embeddings_of, signals_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "embeddings-and-signals.md"

BATTLES = pd.DataFrame(
    {
        "id": ["x", "y", "z"],
        "prompt": ["What is 2+2?", "Which sea?", "Why?"],
        "response_a": ["4", ["one", "two"], "Because."],
        "response_b": ["22", "the red one", "**Because** of it."],
    }
)
"""The second one has two answers A to one prompt: it cannot be used."""


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def test_signals_are_those_of_a_run_with_a_row_for_each_battle():
    with pytest.warns(UserWarning, match="1 of 3 rows"):
        signals = signals_of(BATTLES)
    assert signals.index.tolist() == ["x", "y", "z"]
    assert signals.loc["y"].isna().all()
    usable = battles_of(BATTLES.drop(index=1), labelled=False)
    pd.testing.assert_frame_equal(signals.drop(index="y"), extract(usable).frame())


def test_a_file_gives_what_its_table_gives(tmp_path):
    battles = BATTLES.drop(index=1)
    battles.to_json(tmp_path / "battles.jsonl", orient="records", lines=True)
    pd.testing.assert_frame_equal(signals_of(tmp_path / "battles.jsonl"), signals_of(battles))


def test_embeddings_are_vectors_of_both_answers(model_folder):
    with pytest.warns(UserWarning, match="1 of 3 rows"):
        embeddings = embeddings_of(BATTLES, str(model_folder))
    assert embeddings.index.tolist() == ["x", "y", "z"]
    assert embeddings.loc["y"].isna().all()
    usable = battles_of(BATTLES.drop(index=1), labelled=False)
    states = LanguageModel(load_config(str(model_folder))).read(usable).states
    assert len(embeddings.columns) == 2 * len(states.slots)
    for number, slot in enumerate(states.slots):
        for side, expected in zip("ab", states.slot(number), strict=True):
            found = np.stack(embeddings.loc[["x", "z"], f"{slot}.{side}"])
            assert found.dtype == np.float16
            assert (found == expected).all()


@pytest.mark.slow
def test_the_page_says_what_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    assert "(2, 576) float16" in capsys.readouterr().out
    assert len(pd.read_parquet("evidence.parquet").columns) == 576 + names["signals"].shape[1]
    assert f"{names['signals'].shape[1]} columns" in PAGE.read_text("utf-8")
