"""Toy files of battles in the LMSYS layout, and what was set aside of them."""

import csv
import io
import json

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, settings

from arena.reader import read_battles, rejected_rows
from arena.schema import CLASSES

WORDS = np.array(["the", "cat", "dog", "runs", "green", "because", "however", "1", "2", "list"])
NAMES = ["id", "prompt", "response_a", "response_b"]
VOTES = ["winner_model_a", "winner_model_b", "winner_tie"]
WITH_FILES = settings(
    max_examples=60,
    deadline=None,
    # Each example writes its file anew, so they may share the folder.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def cells(i, turns=1, a="yes", b="no", vote=(1, 0, 0)):
    texts = [json.dumps([text] * turns) for text in (f"question {i}", a, b)]
    return [str(i), *texts, *(str(v) for v in vote)]


def as_csv(rows, header=(*NAMES, *VOTES)):
    out = io.StringIO()
    csv.writer(out).writerows([header, *rows])
    return out.getvalue()


def save(tmp_path, content, name="battles.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def records(n=5):
    return [
        {"id": i, "prompt": [f"p{i}", None], "response_a": ["a", "b"], "response_b": ["c", "d"]}
        | {"winner_model_a": 0, "winner_model_b": int(i != 3), "winner_tie": 0}
        for i in range(n)
    ]


def check_same_as_lines(tmp_path, content, name, rows):
    """Check that a file is read as the same rows in JSON lines are."""
    plain = save(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "plain.jsonl")
    expected = read_battles(plain, labelled=True)
    pd.testing.assert_frame_equal(
        read_battles(save(tmp_path, content, name), labelled=True), expected
    )


def reasons(battles):
    return dict(zip(rejected_rows(battles)["row"], rejected_rows(battles)["reason"], strict=True))


def text(rng, n):
    return " ".join(rng.choice(WORDS, n)) + "."


def lmsys(path, n=60, seed=0, labelled=True):
    """A file in the LMSYS layout; the longer answer tends to win."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        a, b = text(rng, rng.integers(1, 25)), text(rng, rng.integers(1, 25))
        winner = int(rng.choice(3, p=[0.7, 0.1, 0.2] if len(a) > len(b) else [0.1, 0.7, 0.2]))
        row = {"id": 1000 * seed + i, "prompt": json.dumps([f"{text(rng, 4)} {i}"])}
        row |= {"response_a": json.dumps([a]), "response_b": json.dumps([b])}
        if labelled:
            row |= {c: int(k == winner) for k, c in enumerate(CLASSES)}
        rows.append(row)
    pd.DataFrame(rows).to_csv(path, index=False)
    return path
