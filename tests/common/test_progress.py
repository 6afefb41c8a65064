"""Lines of progress where there is no terminal: how many, how fast, how long still."""

import sys

import pytest

from common import progress
from common.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def pass_by(seconds):
        now[0] += seconds

    return pass_by


def test_a_line_says_what_is_done_how_fast_and_how_long_still(clock, capsys):
    with Progress("votes", 3_000) as bar:
        clock(20)
        bar.update(1_000)
        assert capsys.readouterr().err == (
            "votes: 1,000 of 3,000 rows, 50.0 rows/s, 20 s gone, 40 s left\n"
        )
        clock(60)
        bar.update(2_000)
        assert "3,000 of 3,000 rows, 37.5 rows/s, 80 s gone, 0 s left" in capsys.readouterr().err


def test_lines_come_no_more_often_than_asked_and_the_last_one_always(clock, capsys):
    with Progress("votes", 4, every=5) as bar:
        for _ in range(4):
            clock(2)
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" of ")[0] for line in lines] == ["votes: 3", "votes: 4"]


def test_nothing_done_has_no_rate(clock, capsys):
    with Progress("votes", 0):
        pass
    assert capsys.readouterr().err == "votes: 0 of 0 rows, 0.0 rows/s, 0 s gone, 0 s left\n"


def test_work_that_failed_does_not_say_that_it_is_done(clock, capsys):
    with pytest.raises(RuntimeError), Progress("votes", 4):
        raise RuntimeError
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("votes", 4, "steps") as bar:
        bar.update(4)
    told = capsys.readouterr().err
    assert "votes: 100%" in told
    assert "4/4" in told
