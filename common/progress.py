"""Progress of long work: tqdm's bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

PLAIN_LINE = (
    "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_noinv_fmt}, {elapsed} gone, {remaining} left"
)


class Progress(tqdm):  # type: ignore[type-arg]
    """Counts units of work on stderr, with the rate and the time left.

    On a terminal it is a tqdm bar; elsewhere one plain line every ``every`` seconds.
    """

    monitor_interval = 0
    """No thread of its own: whoever forks has none to lose."""

    def __init__(
        self,
        what: str,
        total: int,
        unit: str = "rows",
        every: float = 10.0,
        delay: float = 0.0,
        disable: bool = False,
    ) -> None:
        """``total`` units of work named ``unit`` are to be done.

        Args:
            what: is done.
            total: units of it.
            unit: their name.
            every: seconds from line to line.
            delay: nothing is printed of work that takes fewer seconds.
            disable: print nothing.
        """
        self.lines = not sys.stderr.isatty()
        style: dict[str, Any] = {}
        if self.lines:
            style = {"bar_format": PLAIN_LINE, "mininterval": every, "miniters": 1, "leave": False}
        super().__init__(
            desc=what, total=total, unit=f" {unit}", delay=delay, disable=disable, **style
        )

    def update(self, n: float | None = 1) -> None:
        """Count ``n`` units more as done."""
        super().update(n)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show the present state; tqdm calls it, and where lines stay there is nothing to clear."""
        if self.lines:
            print(self, file=sys.stderr, flush=True)
        else:
            super().display(msg, pos)
