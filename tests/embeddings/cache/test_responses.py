"""ResponseCache by content: each on disk at once, none lost, damage said in one line."""

import sqlite3

import numpy as np
import pytest

from common.errors import Code
from embeddings.cache.responses import FILE, ResponseCache
from embeddings.prompts.pairs import PackedPair
from tests.helpers.errors import raises


def question(letter):
    return PackedPair(letter.encode() * 32, np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int8))


def test_answers_outlive_a_process_that_closes_nothing(tmp_path):
    first = ResponseCache(tmp_path, {"model": "toy"})
    first.add(question("x").key, np.array([-0.5, -1.5, -4.0]), 1)
    with ResponseCache(tmp_path, {"model": "toy"}) as second:
        asked = [question(letter) for letter in "yxz"]
        assert second.missing(asked) == [asked[0], asked[2]]
        second.add(asked[0].key, np.array([-1.0, -2.0, -3.0]), 0)
        logs, unseen = second.get([asked[1], asked[0], asked[1]])
    assert logs.dtype == np.float32
    assert logs.tolist() == [[-0.5, -1.5, -4.0], [-1, -2, -3], [-0.5, -1.5, -4.0]]
    assert unseen.tolist() == [1, 0, 1]
    assert (tmp_path / "settings.json").read_text() == '{\n  "model": "toy"\n}\n'


def test_no_battles_have_no_answers(tmp_path):
    with ResponseCache(tmp_path, {}) as answers:
        logs, unseen = answers.get([])
    assert logs.shape == (0, 3)
    assert unseen.shape == (0,)


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with raises(Code.RESPONSES_UNUSABLE, match="Delete it"):
        ResponseCache(tmp_path, {})


@pytest.mark.parametrize("fault", ["a full disk", "another process", "no file"])
def test_paid_answers_are_not_given_up_for_what_passes(tmp_path, fault):
    with ResponseCache(tmp_path, {}) as answers:
        answers.add(question("x").key, np.zeros(3), 0)
        if fault == "no file":
            (tmp_path / "other" / FILE).mkdir(parents=True)
            with raises(Code.RESPONSES_UNUSABLE) as error:
                ResponseCache(tmp_path / "other", {})
        elif fault == "a full disk":
            answers._run("PRAGMA max_page_count = 2")
            with raises(Code.RESPONSES_UNUSABLE, match="full") as error:
                answers.add(b"y" * 100_000, np.zeros(3), 0)
        else:
            other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            answers._run("PRAGMA busy_timeout = 0")
            with raises(Code.RESPONSES_UNUSABLE, match="locked") as error:
                answers.add(question("y").key, np.zeros(3), 0)
            other.close()
        assert answers.get([question("x")])[1].tolist() == [0]
    assert FILE in error.value.message
    assert "delete" not in str(error.value)
