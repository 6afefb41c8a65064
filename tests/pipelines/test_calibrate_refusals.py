"""What calibrate.py cannot use: one line each, and nothing is written."""

import json
import re

import numpy as np
import pytest

from arena.schema import CLASSES
from tests.helpers.forecast_files import P, drawn, one_hot, refused, table


def broken(change):
    z, y = drawn(60)
    return change(table(np.exp(z), y))


def put(column, value, row=4):
    def change(frame):
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
        return frame

    return change


BROKEN = {
    "no id": (lambda f: f.drop(columns="id"), "no column id"),
    "no tie": (lambda f: f.drop(columns=P[2]), f"no column {P[2]}"),
    "no probabilities": (lambda f: f.drop(columns=P), "no probabilities"),
    "votes alone": (lambda f: f[["id"]].join(one_hot(f["label"])), "no probabilities|no column"),
    "no label": (lambda f: f.drop(columns="label"), "no labels: .* label "),
    "no label in a submission": (
        lambda f: f.drop(columns="label").rename(columns=dict(zip(P, CLASSES, strict=True))),
        "no labels",
    ),
    "two sets": (
        lambda f: f.assign(p_a=f[P[0]], p_b=f[P[1]], p_tie=f[P[2]]),
        "probabilities in .*p_winner_model_a.* and in p_a",
    ),
    "soft votes": (
        lambda f: f.join(f[P].rename(columns=dict(zip(P, CLASSES, strict=True)))),
        "probabilities in ",
    ),
    "two labels that differ": (
        lambda f: f.join(one_hot((f["label"] + (f.index == 4)) % 3)),
        r"row 5 \(id r4\): .*different",
    ),
    "a word": (put(P[1], "often"), r"row 5 \(id r4\): p_winner_model_b is 'often'"),
    "empty": (put(P[1], ""), r"row 5 \(id r4\): p_winner_model_b is empty"),
    "NaN": (put(P[1], "nan"), r"row 5 \(id r4\): p_winner_model_b is 'nan'"),
    "infinite": (put(P[1], "inf"), r"row 5 \(id r4\): p_winner_model_b is 'inf'"),
    "negative": (put(P[1], -0.25), r"row 5 \(id r4\): p_winner_model_b is '-0.25'"),
    "percent": (lambda f: f.assign(**{c: f[c] * 100 for c in P}), r"row 1 \(id r0\).*sum to 100"),
    "sum": (put(P[0], 0.99), r"row 5 \(id r4\): p_winner_model_a.* sum to "),
    "bad label": (put("label", "3"), r"row 5 \(id r4\): label is '3'"),
    "bad word": (put("label", "maybe"), r"row 5 \(id r4\): label is 'maybe'"),
    "a word and a number": (put("label", "a1"), r"row 5 \(id r4\): label is 'a1'"),
    "another letter": (put("label", "b\u00e9"), r"row 5 \(id r4\): label is 'b\u00e9'"),
    "two winners": (
        lambda f: put(CLASSES[0], 1)(f.join(one_hot(np.ones(60, dtype=int))).drop(columns="label")),
        r"row 5 \(id r4\): two winners",
    ),
    "no winner": (
        lambda f: put(CLASSES[1], 0)(f.join(one_hot(np.ones(60, dtype=int))).drop(columns="label")),
        r"row 5 \(id r4\): no winner",
    ),
    "duplicate id": (put("id", "r2"), r"row 5 \(id r2\): row 3 has the same id"),
    "missing id": (put("id", ""), "row 5: the id is missing"),
    "formula": (put("id", "a;=cmd|' /C calc'!A0"), "row 5: the id is missing, .* or a formula"),
    "few labels": (lambda f: put("label", "")(f.iloc[:19]), "at least 20"),
    "no labels known": (lambda f: f.assign(label=-1), "at least 20"),
    "one group": (lambda f: f.assign(group="x"), "1 groups: at least 20"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_calibrated_is_one_line(name, tmp_path, capsys):
    change, told = BROKEN[name]
    assert re.search(told, refused(tmp_path, capsys, broken(change)))


def test_damaged_files_are_one_line(tmp_path, capsys):
    good = broken(lambda f: f).to_csv(index=False).encode()
    assert "row 1 " in refused(tmp_path, capsys, good.replace(b"\nr0,", b"\nr0,0.5,", 1))
    assert "UTF-8" in refused(tmp_path, capsys, good.replace(b"\nr3,", b"\nr\xff,"))
    assert "empty" in refused(tmp_path, capsys, b"")
    assert "no rows" in refused(tmp_path, capsys, good.split(b"\n")[0] + b"\n")
    rows = broken(lambda f: f).to_dict("records")
    for name in ("\ud800", "x\r=1", ";=" * 500_000 + "("):
        rows[3]["id"] = name
        lines = "\n".join(json.dumps(row) for row in rows).encode()
        complaint = "the id is missing, not one line of text, or a formula"
        assert complaint in refused(tmp_path, capsys, lines)
