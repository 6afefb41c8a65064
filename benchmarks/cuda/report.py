"""The report of a check: points made of parts, each within its time, and none silently left out."""

from __future__ import annotations

import json
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

PASSED, FAILED, NOT_RUN, NOT_REACHED = "passed", "failed", "not run", "not reached"

ROOMS = ("common", "arena", "features", "embeddings", "meta", "tiebreak", "pipelines")
"""Packages of this project: a module of theirs that is missing is a fault, not a reason."""


class OutOfTimeError(BaseException):
    """The time of a part is over; no ``except Exception`` of what it calls keeps it."""


@dataclass
class Part:
    """One thing that a point looks at.

    Attributes:
        name: of it, within its point.
        state: ``PASSED``, ``FAILED``, ``NOT_RUN`` or ``NOT_REACHED``.
        reason: why it did not pass; may be empty.
        seconds: that it took.
        figures: what it measured, by name.
        trace: of an exception.
    """

    name: str
    state: str = PASSED
    reason: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    trace: str = ""

    def at_most(self, name: str, value: float, bound: float) -> None:
        """Note a figure that must not exceed ``bound``; one that is no number does."""
        self.figures[name] = value
        self.holds(f"{name}: {value:.4g}, at most {bound:g}", value <= bound)

    def at_least(self, name: str, value: float, bound: float) -> None:
        """Note a figure that must reach ``bound``."""
        self.figures[name] = value
        self.holds(f"{name}: {value:.4g}, at least {bound:g}", value >= bound)

    def not_run(self, reason: str) -> None:
        """Say that it could not be looked at."""
        self.state, self.reason = NOT_RUN, reason

    def holds(self, statement: str, true: bool) -> None:
        """Fail unless a statement holds; all that do not are in the reason."""
        if not true:
            self.state = FAILED
            self.reason = "; ".join(filter(None, [self.reason, f"does not hold: {statement}"]))


@dataclass
class Point:
    """A point of the check.

    Attributes:
        number: by which ``--only`` names it.
        title: for people.
        limit: seconds that it may take.
        body: what looks at its parts.
        parts: what came of them.
        reason: why it was not reached; empty where it was.
        seconds: that it took.
    """

    number: int
    title: str
    limit: float
    body: Callable[[Any, Parts], None] = field(repr=False)
    parts: list[Part] = field(default_factory=list)
    reason: str = ""
    seconds: float = 0.0

    @property
    def state(self) -> str:
        """The worst of its parts' states; ``NOT_RUN`` only where nothing ran."""
        states = {part.state for part in self.parts}
        order = (FAILED, NOT_REACHED, PASSED, NOT_RUN)
        return next((state for state in order if state in states), NOT_REACHED)


class Parts:
    """Looks at the parts of one point, each until its time is over."""

    def __init__(self, point: Point, end: float, obstacle: Callable[[Sequence[str]], str]) -> None:
        """Nothing was looked at yet.

        Args:
            point: gets the parts.
            end: ``time.monotonic()`` at which its time is over.
            obstacle: says why what is needed is not here; empty where it is.
        """
        self._point, self._end, self._obstacle = point, end, obstacle

    def run(self, name: str, body: Callable[[Part], None], *needs: str) -> Part:
        """Look at one part; whatever it raises is in the report, but for Ctrl-C.

        Args:
            name: of the part.
            body: notes figures and what must hold.
            needs: libraries and devices without which it does not run.
        """
        part = Part(name)
        self._point.parts.append(part)
        left = self._end - time.monotonic()
        if reason := self._obstacle(needs):
            part.not_run(reason)
        elif left <= 0:
            part.state, part.reason = NOT_REACHED, "the time was over"
        else:
            begin = time.monotonic()
            look(part, body, left)
            part.seconds = round(time.monotonic() - begin, 2)
        return part


def look(part: Part, body: Callable[[Part], None], seconds: float = 0.0) -> None:
    """Look at a part; what is raised becomes its state, but for Ctrl-C.

    Args:
        part: that is looked at.
        body: looks at it.
        seconds: that it may take; 0 for any.
    """
    try:
        with limited(seconds):
            body(part)
    except OutOfTimeError:
        part.state, part.reason = NOT_REACHED, f"stopped after {seconds:.0f} s"
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        part.state, part.reason = FAILED, f"{type(error).__name__}: {first[:300]}"
        part.trace = "".join(traceback.format_exception(error))[-4000:]
        module = str(getattr(error, "name", None) or "").split(".")[0]
        if isinstance(error, ModuleNotFoundError) and module not in ROOMS:
            part.not_run(f"needs {module}")
        # Its frames hold what the part had loaded.
        traceback.clear_frames(error.__traceback__)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise ``OutOfTimeError`` in the main thread after so many seconds; 0 for never."""

    def over(_: int, __: FrameType | None) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Report:
    """Runs points, prints each when it ends, and keeps the file of all up to date.

    Attributes:
        head: what is the same for all points, for the file.
        points: in their order.
        folder: gets ``report.json`` and ``report.txt``.
        limit: seconds that all may take.
    """

    head: dict[str, Any]
    points: list[Point]
    folder: Path
    limit: float

    def run(
        self,
        bench: Any,
        obstacle: Callable[[Sequence[str]], str],
        broken: Callable[[], str],
        log: TextIO,
    ) -> None:
        """Look at every point that time allows.

        Args:
            bench: what bodies work with.
            obstacle: as ``Parts`` has it.
            broken: says, after a point that failed, why none that follows can tell anything.
            log: gets what bodies print.
        """
        begin, trouble = time.monotonic(), ""
        self._write()
        for point in self.points:
            start = time.monotonic()
            end = min(start + point.limit, begin + self.limit)
            if trouble:
                point.parts.append(Part("all", NOT_RUN, trouble))
            elif start >= end:
                point.reason = f"the {self.limit:.0f} s of all points were over"
            else:
                parts, whole = Parts(point, end, obstacle), Part("between its parts")
                print(f"point {point.number}: {point.title}", file=log, flush=True)
                with redirect_stdout(log), redirect_stderr(log):
                    look(whole, partial(_run, point, bench, parts))
                if whole.state != PASSED:
                    point.parts.append(whole)
                point.seconds = round(time.monotonic() - start, 1)
                if point.state == FAILED and (reason := broken()):
                    trouble = f"{reason} since point {point.number}: rerun with --only"
            print(lines_of(point), flush=True)
            self._write()
        print(self.summary(), flush=True)

    @property
    def failed(self) -> list[int]:
        """Numbers of the points that failed."""
        return [point.number for point in self.points if point.state == FAILED]

    def summary(self) -> str:
        """How many points have which state, for people."""
        states = [point.state for point in self.points]
        counts = [f"{states.count(s)} {s}" for s in (PASSED, FAILED, NOT_RUN, NOT_REACHED)]
        return f"points: {', '.join(counts)}; {sum(p.seconds for p in self.points):.0f} s"

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        points = []
        for point in self.points:
            entries: dict[str, Any] = {"number": point.number, "title": point.title}
            entries |= {"state": point.state, "reason": point.reason, "seconds": point.seconds}
            points.append(entries | {"parts": [asdict(part) for part in point.parts]})
        content = {**self.head, "summary": self.summary(), "points": points}
        text = json.dumps(content, indent=1, default=str)
        (self.folder / "report.json").write_text(f"{text}\n", encoding="utf-8")
        lines = [*map(lines_of, self.points), self.summary()]
        (self.folder / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _run(point: Point, bench: Any, parts: Parts, _: Part) -> None:
    point.body(bench, parts)


def lines_of(point: Point) -> str:
    """A point for people: a line for it, and one for each of its parts."""
    lines = [f"{point.number:>2} {point.title:60} {point.state:12} {point.seconds:6.1f} s"]
    if point.reason:
        lines.append(f"     {point.reason}")
    for part in point.parts:
        figures = ", ".join(f"{name} {_shown(value)}" for name, value in part.figures.items())
        told = "; ".join(filter(None, [part.reason, figures]))
        lines.append(f"     {part.name}: {part.state}" + (f": {told}" if told else ""))
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
