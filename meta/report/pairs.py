"""The accuracy on chosen / rejected pairs as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meta.report.figures import fixed


def lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """The figures of ``meta.metrics.pairs.pair_figures``, one a line."""
    yield _line("chosen preferred over rejected", figures["chosen_preferred"], "pairs")
    if "chosen_best" in figures:
        yield _line("chosen preferred over all rejected", figures["chosen_best"], "prompts")
    for name, part in figures.get("sources", {}).items():
        unit = "prompts" if "chosen_best" in part else "pairs"
        yield _line(f"  {name}", part.get("chosen_best", part["chosen_preferred"]), unit)
    if figures.get("mean_of_sources") is not None:
        count = len(figures["sources"])
        yield f"{'  mean of ' + str(count) + ' sources':<36}{figures['mean_of_sources']:.3f}"


def _line(name: str, figure: Mapping[str, Any], unit: str) -> str:
    line = f"{name:<36}{figure['accuracy']:.3f} of {figure['rows']:,} {unit}"
    if figure["interval"] is not None:
        line += ", 95% interval " + " to ".join(fixed(end, 3) for end in figure["interval"])
    return line
