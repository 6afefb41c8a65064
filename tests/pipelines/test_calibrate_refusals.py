"""What calibrate.py cannot use: one line each, and nothing is written."""

import json
import re

import numpy as np
import pytest

from arena.schema import CLASSES
from common.errors import Code
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
    "no id": (lambda f: f.drop(columns="id"), Code.COLUMN_MISSING, "id"),
    "no tie": (lambda f: f.drop(columns=P[2]), Code.COLUMN_MISSING, P[2]),
    "no probabilities": (lambda f: f.drop(columns=P), Code.COLUMN_MISSING, P[0]),
    "votes alone": (lambda f: f[["id"]].join(one_hot(f["label"])), Code.COLUMN_MISSING, P[0]),
    "no label": (lambda f: f.drop(columns="label"), Code.VOTES_MISSING, "label"),
    "no label in a submission": (
        lambda f: f.drop(columns="label").rename(columns=dict(zip(P, CLASSES, strict=True))),
        Code.VOTES_MISSING,
        "label",
    ),
    "two sets": (
        lambda f: f.assign(p_a=f[P[0]], p_b=f[P[1]], p_tie=f[P[2]]),
        Code.COLUMN_AMBIGUOUS,
        "p_winner_model_a.*p_a",
    ),
    "soft votes": (
        lambda f: f.join(f[P].rename(columns=dict(zip(P, CLASSES, strict=True)))),
        Code.COLUMN_AMBIGUOUS,
        CLASSES[0],
    ),
    "two labels that differ": (
        lambda f: f.join(one_hot((f["label"] + (f.index == 4)) % 3)),
        Code.LABELS_DISAGREE,
        r"row 5 \(id r4\)",
    ),
    "a word": (
        put(P[1], "often"),
        Code.PROBABILITY_INVALID,
        r"row 5 \(id r4\): p_winner_model_b is 'often'",
    ),
    "empty": (
        put(P[1], ""),
        Code.PROBABILITY_INVALID,
        r"row 5 \(id r4\): p_winner_model_b is empty",
    ),
    "NaN": (
        put(P[1], "nan"),
        Code.PROBABILITY_INVALID,
        r"row 5 \(id r4\): p_winner_model_b is 'nan'",
    ),
    "infinite": (
        put(P[1], "inf"),
        Code.PROBABILITY_INVALID,
        r"row 5 \(id r4\): p_winner_model_b is 'inf'",
    ),
    "negative": (
        put(P[1], -0.25),
        Code.PROBABILITY_INVALID,
        r"row 5 \(id r4\): p_winner_model_b is '-0.25'",
    ),
    "percent": (
        lambda f: f.assign(**{c: f[c] * 100 for c in P}),
        Code.PROBABILITY_INVALID,
        r"row 1 \(id r0\).* 100",
    ),
    "logits": (
        lambda f: f.assign(**{c: np.log(f[c]) for c in P}),
        Code.PROBABILITY_INVALID,
        r"row 1 \(id r0\).* --logits",
    ),
    "labels 1 and 2": (
        lambda f: f.assign(label=f["label"].replace(0, 1)),
        Code.LABELS_UNCLEAR,
        "label holds 1, 2, .* --labels-from",
    ),
    "labels 1 to 3": (
        lambda f: f.assign(label=f["label"] + 1),
        Code.LABELS_UNCLEAR,
        "label holds 1, 2, 3, .* --labels-from",
    ),
    "sum": (put(P[0], 0.99), Code.PROBABILITY_INVALID, r"row 5 \(id r4\): p_winner_model_a"),
    "bad label": (put("label", "3"), Code.ROW_DAMAGED, r"row 5 \(id r4\): label is '3'"),
    "bad word": (put("label", "maybe"), Code.ROW_DAMAGED, r"row 5 \(id r4\): label is 'maybe'"),
    "a word and a number": (
        put("label", "a1"),
        Code.ROW_DAMAGED,
        r"row 5 \(id r4\): label is 'a1'",
    ),
    "another letter": (
        put("label", "b\u00e9"),
        Code.ROW_DAMAGED,
        r"row 5 \(id r4\): label is 'b\u00e9'",
    ),
    "two winners": (
        lambda f: put(CLASSES[0], 1)(f.join(one_hot(np.ones(60, dtype=int))).drop(columns="label")),
        Code.ROW_DAMAGED,
        r"row 5 \(id r4\): two winners",
    ),
    "no winner": (
        lambda f: put(CLASSES[1], 0)(f.join(one_hot(np.ones(60, dtype=int))).drop(columns="label")),
        Code.ROW_DAMAGED,
        r"row 5 \(id r4\): no winner",
    ),
    "duplicate id": (put("id", "r2"), Code.ID_REPEATED, r"row 5 \(id r2\): row 3"),
    "missing id": (put("id", ""), Code.ID_INVALID, "row 5"),
    "formula": (put("id", "a;=cmd|' /C calc'!A0"), Code.ID_INVALID, "row 5"),
    "few labels": (lambda f: put("label", "")(f.iloc[:19]), Code.TOO_FEW_BATTLES, "18 "),
    "no labels known": (lambda f: f.assign(label=-1), Code.TOO_FEW_BATTLES, "0 "),
    "one group": (lambda f: f.assign(group="x"), Code.TOO_FEW_BATTLES, "1 "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_calibrated_is_one_line(name, tmp_path, capsys):
    change, code, place = BROKEN[name]
    assert re.search(place, refused(tmp_path, capsys, broken(change), code))


def test_options_that_do_not_fit_the_file_are_one_line(tmp_path, capsys):
    frame = broken(lambda f: f)
    assert P[0] in refused(tmp_path, capsys, frame, Code.PROBABILITY_INVALID, "--logits")
    assert "style" in refused(tmp_path, capsys, frame, Code.COLUMN_MISSING, "--view", "style")


def test_predictions_of_views_none_of_which_is_the_whole_need_a_name(tmp_path, capsys):
    frame = broken(lambda f: f)
    for view in ("style", "hidden"):
        frame = frame.assign(**{f"{view}.{c}": frame[p] for c, p in zip(CLASSES, P, strict=True)})
    frame = frame.drop(columns=P)
    assert "hidden, style" in refused(tmp_path, capsys, frame, Code.COLUMN_AMBIGUOUS)
    told = refused(tmp_path, capsys, frame, Code.COLUMN_MISSING, "--view", "lexical")
    assert "hidden, style" in told


def test_damaged_files_are_one_line(tmp_path, capsys):
    good = broken(lambda f: f).to_csv(index=False).encode()
    longer = good.replace(b"\nr0,", b"\nr0,0.5,", 1)
    assert "row 1 " in refused(tmp_path, capsys, longer, Code.ROW_DAMAGED)
    refused(tmp_path, capsys, good.replace(b"\nr3,", b"\nr\xff,"), Code.ROW_DAMAGED)
    refused(tmp_path, capsys, b"", Code.INPUT_EMPTY)
    refused(tmp_path, capsys, good.split(b"\n")[0] + b"\n", Code.INPUT_EMPTY)
    rows = broken(lambda f: f).to_dict("records")
    for name in ("\ud800", "x\r=1", ";=" * 500_000 + "("):
        rows[3]["id"] = name
        lines = "\n".join(json.dumps(row) for row in rows).encode()
        refused(tmp_path, capsys, lines, Code.ID_INVALID)
