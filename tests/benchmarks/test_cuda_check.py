"""The check of a machine with a card: its report and limits, and its stand-in on a CPU."""

import io
import json
import time

import pytest

from benchmarks import cuda_check
from benchmarks.cuda.bench import CARD, Bench, obstacle
from benchmarks.cuda.reading import covered
from benchmarks.cuda.report import FAILED, NOT_REACHED, NOT_RUN, PASSED, Point, Report


def slow(_):
    time.sleep(60)


def fails(_):
    raise ValueError("no such number\nand more")


def reports(folder, *bodies, limit=60.0, whole=60.0, broken=""):
    """The points of a report whose bodies are these, and its file."""
    points = [Point(i, f"point {i}", limit, body) for i, body in enumerate(bodies)]
    report = Report({"device": "cpu"}, points, folder, whole)
    report.run(None, obstacle, lambda: broken, io.StringIO())
    written = json.loads((folder / "report.json").read_text())["points"]
    assert [p["state"] for p in written] == [p.state for p in points]
    return report, written


def passes(_, parts):
    parts.run("a part", lambda part: part.at_most("figure", 1.0, 2.0))


def test_what_does_not_hold_fails_and_says_its_figure(tmp_path, capsys):
    def body(_, parts):
        parts.run("too large", lambda part: part.at_most("figure", 3.0, 2.0))
        parts.run("no number", lambda part: part.at_least("figure", float("nan"), 2.0))

    report, (found,) = reports(tmp_path, body)
    assert [part["state"] for part in found["parts"]] == [FAILED, FAILED]
    assert found["parts"][0]["figures"] == {"figure": 3.0}
    assert report.failed == [0]
    assert "figure: 3, at most 2" in capsys.readouterr().out


def test_an_exception_fails_its_part_alone(tmp_path):
    def body(_, parts):
        parts.run("a fault", fails)
        parts.run("after it", lambda part: None)

    _, (found,) = reports(tmp_path, body)
    first, second = found["parts"]
    assert first["state"] == FAILED
    assert first["reason"] == "ValueError: no such number"
    assert "fails" in first["trace"]
    assert second["state"] == PASSED


def test_a_fault_between_parts_is_in_the_report(tmp_path):
    report, (found,) = reports(tmp_path, lambda *_: fails(None))
    assert report.failed == [0]
    assert "no such number" in found["parts"][0]["reason"]


def test_time_that_is_over_is_reported_part_by_part_and_point_by_point(tmp_path):
    def body(_, parts):
        parts.run("slow", slow)
        parts.run("after it", lambda part: None)

    start = time.monotonic()
    report, found = reports(tmp_path, passes, body, passes, whole=0.3)
    assert time.monotonic() - start < 20
    assert [point["state"] for point in found] == [PASSED, NOT_REACHED, NOT_REACHED]
    assert [part["state"] for part in found[1]["parts"]] == [NOT_REACHED, NOT_REACHED]
    assert "over" in found[2]["reason"]
    assert report.failed == []


def test_a_point_has_a_limit_of_its_own(tmp_path):
    def body(_, parts):
        parts.run("slow", slow)

    _, found = reports(tmp_path, body, passes, limit=0.3)
    assert [point["state"] for point in found] == [NOT_REACHED, PASSED]


def test_what_is_not_here_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def body(_, parts):
        parts.run("on a card", fails, CARD)
        parts.run("a library", fails, "no_such_library")
        parts.run("an import", lambda _: __import__("no_such_module"))

    report, (found,) = reports(tmp_path, body)
    assert {part["state"] for part in found["parts"]} == {NOT_RUN}
    reasons = [part["reason"] for part in found["parts"]]
    assert reasons == ["needs a card", "needs no_such_library", "needs no_such_module"]
    assert report.failed == []


def test_what_is_missing_of_the_project_is_a_fault(tmp_path):
    def body(_, parts):
        parts.run("an import", lambda _: __import__("embeddings.no_such_module"))

    report, _ = reports(tmp_path, body)
    assert report.failed == [0]


def test_nothing_is_asked_of_a_card_that_computes_no_more(tmp_path):
    def body(_, parts):
        parts.run("a fault", fails)

    _, found = reports(tmp_path, body, passes, broken="CUDA is broken")
    assert found[1]["state"] == NOT_RUN
    assert "CUDA is broken since point 0" in found[1]["parts"][0]["reason"]


def test_the_time_of_kernels_that_overlap_is_counted_once():
    assert covered([(0, 2), (1, 3), (5, 6), (5.25, 5.5)]) == pytest.approx(4)
    assert covered([]) == 0


def test_the_answers_are_as_long_as_they_should_be(tmp_path):
    bench = Bench("cpu", tmp_path)
    lengths = [len(answer.ids) for answer in bench.packed(bench.config("G")).answers]
    assert len(lengths) == 24
    assert max(lengths) == pytest.approx(240, abs=40)
    assert min(lengths) < 32


def stand_in(tmp_path, *numbers):
    """The exit code of the stand-in for some points, and these by number."""
    only = ",".join(map(str, numbers))
    code = cuda_check.command(["--device", "cpu", "--only", only, "--out", str(tmp_path)])
    found = json.loads((tmp_path / "report.json").read_text())["points"]
    return code, {point["number"]: point for point in found}


@pytest.mark.slow
def test_the_stand_in_passes_what_a_cpu_can_run(tmp_path, monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "TIEBREAK_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")
    code, found = stand_in(tmp_path, 1, 4, 5, 7, 8, 9, 10)
    assert code == 0, found
    assert found[4]["state"] == NOT_RUN
    assert {found[n]["state"] for n in (1, 5, 7, 8, 9, 10)} == {PASSED}


def test_a_card_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert cuda_check.command(["--device", "cuda", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
