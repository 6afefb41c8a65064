"""Toy files of battles in the LMSYS layout, and what was set aside of them."""

import csv
import io
import json

from hypothesis import HealthCheck, settings

from arena.readers import rejected

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


def reasons(battles):
    return dict(zip(rejected(battles)["row"], rejected(battles)["reason"], strict=True))
