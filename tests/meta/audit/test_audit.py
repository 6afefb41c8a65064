"""The audit as a whole: findings of all checks."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from meta.audit import CHECKS, run
from tests.helpers.audit_toys import check, toy_case, with_meta


def test_a_sound_case_passes_every_check(case):
    findings = run(case)
    assert [f.code for f in findings] == sorted(CHECKS)
    assert {f"C{i:02}" for i in range(1, 18)} <= set(CHECKS)
    verdicts = {f.code: f.verdict for f in findings}
    assert verdicts.pop("C10") == "not applicable"
    assert set(verdicts.values()) == {"pass"}, [f for f in findings if f.verdict == "fail"]
    judged = [f for f in findings if f.verdict != "not applicable"]
    assert all(f.figure is not None and f.threshold is not None for f in judged)
    assert findings == run(case)


def test_findings_are_json(case):
    for f in run(case):
        text = json.dumps(asdict(f), allow_nan=False)
        assert json.loads(text)["code"] == f.code
        assert f.sentence.endswith(".")
        assert "nan" not in f.sentence


@pytest.mark.parametrize("n", [1, 2, 30])
@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 1], [2]])
def test_tiny_cases_and_missing_classes_do_not_crash(n, classes):
    tiny = toy_case(n, test=n)
    tiny = replace(tiny, labels=np.resize(classes, n))
    for f in run(tiny):
        json.dumps(asdict(f), allow_nan=False)
        assert "nan" not in f.sentence


def test_without_test_battles_nothing_is_said_of_them(case):
    alone = replace(case, test_battles=None, test_texts=None, test_design=None)
    assert check("C08", alone).verdict == check("C09", alone).verdict == "not applicable"


def test_parts_of_different_battles_are_refused(case):
    with pytest.raises(ValueError, match="not of the scored"):
        replace(case, design=case.design.take(np.arange(1199, -1, -1)))
    with pytest.raises(ValueError, match="finite"):
        with_meta(case, np.full((1200, 3), np.nan))
    with pytest.raises(ValueError, match="labels"):
        replace(case, labels=case.labels[1:])
    with pytest.raises(ValueError, match="belong together"):
        replace(case, test_design=None)


def test_rows_scored_need_not_be_all(case):
    rows = np.arange(0, 1200, 2)
    part = replace(
        case,
        rows=rows,
        design=case.design.take(rows),
        probabilities={k: p[rows] for k, p in case.probabilities.items()},
    )
    assert {f.code for f in run(part) if f.verdict == "fail"} <= {"C14"}
