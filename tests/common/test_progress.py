"""A bar on a terminal, and lines where there is none: how many, how fast, how long still."""

import sys

import pytest

from common.progress import Progress


def lines(capsys):
    return capsys.readouterr().err.splitlines()


def test_lines_say_what_is_done(capsys):
    with Progress("votes", 3_000, every=0) as bar:
        bar.update(1_000)
        bar.update(2_000)
    counts = [line.split(",")[0] for line in lines(capsys)]
    assert counts == [
        "votes: 0 of 3000 rows",
        "votes: 1000 of 3000 rows",
        *2 * ["votes: 3000 of 3000 rows"],
    ]


def test_a_line_says_how_fast_and_how_long_still(capsys):
    with Progress("votes", 4, every=0) as bar:
        bar.start_t = bar.last_print_t = bar.start_t - 20
        bar.update(1)
    last = lines(capsys)[-1]
    assert last.startswith("votes: 1 of 4 rows,")
    assert last.endswith("rows/s, 00:20 gone, 01:00 left")


def test_between_the_first_and_the_last_lines_come_no_more_often_than_asked(capsys):
    with Progress("votes", 400, every=60) as bar:
        for _ in range(400):
            bar.update()
    assert [line.split(" of ")[0] for line in lines(capsys)] == ["votes: 0", "votes: 400"]


def test_nothing_to_do_is_no_error(capsys):
    with Progress("votes", 0):
        pass
    assert lines(capsys)[-1].startswith("votes: 0 of 0 rows")


def test_work_that_failed_does_not_say_that_it_is_done(capsys):
    with pytest.raises(RuntimeError), Progress("votes", 4):
        raise RuntimeError
    assert lines(capsys)[-1].startswith("votes: 0 of 4 rows")


def test_disabled_it_prints_nothing(capsys):
    with Progress("votes", 4, every=0, disable=True) as bar:
        bar.update(4)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("votes", 4, "steps") as bar:
        bar.update(4)
    told = capsys.readouterr().err
    assert "votes: 100%" in told
    assert "4/4" in told
