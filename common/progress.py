"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Counts units of work on stderr, with the rate and the time left.

    On a terminal it is a tqdm bar; elsewhere one plain line every ``every`` seconds.
    """

    def __init__(self, what: str, total: int, unit: str = "rows", every: float = 10.0) -> None:
        """``total`` units of work named ``unit`` are to be done."""
        self.what, self.total, self.unit, self.every = what, total, unit, every
        self.done = 0
        self.start = self.last = time.monotonic()
        self.bar = tqdm(desc=what, total=total, unit=f" {unit}") if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        elif kind is None:
            self._line()

    def update(self, units: int = 1) -> None:
        """Count ``units`` more as done."""
        self.done += units
        if self.bar is not None:
            self.bar.update(units)
        elif time.monotonic() - self.last > self.every:
            self._line()

    def _line(self) -> None:
        self.last = time.monotonic()
        elapsed = self.last - self.start
        rate = self.done / elapsed if elapsed > 0 else 0.0
        left = (self.total - self.done) / rate if rate > 0 else 0.0
        print(
            f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, "
            f"{rate:,.1f} {self.unit}/s, {elapsed:,.0f} s gone, {left:,.0f} s left",
            file=sys.stderr,
            flush=True,
        )
