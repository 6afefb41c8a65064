"""Charts of the report as inline SVG that takes its colours and its font from the page.

Matplotlib draws with stand-in colours, which become CSS variables (``var(--a)``), so one drawing
serves a light and a dark page. No script, nothing to load, the same bytes for the same figures.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from arena.schema import SEED
from meta.base_models.baselines import NULLS
from meta.metrics.scores import bins_of, clustered
from meta.report.figures import BAYES
from meta.report.text import clean
from meta.stack.predictions import Predictions

COLOURS = {
    name: f"#0f0f{i:02x}"
    for i, name in enumerate(("ink", "muted", "rule", "accent", "a", "b", "tie"), start=1)
}
"""Stand-ins by the name of the page's CSS variable."""

INK, MUTED, RULE, ACCENT = (COLOURS[name] for name in ("ink", "muted", "rule", "accent"))
OF_CLASS = tuple(COLOURS[name] for name in ("a", "b", "tie"))
MARKERS = ("o", "s", "^")
CLASS_NAMES = ("A", "B", "tie")
POINTS = 2_000
"""Most points of a scatter: more would hide each other and make the page heavy."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def _draw(width: int, height: int, title: str, paint: Callable[[Axes], None]) -> Markup:
    """Draw ``paint`` on axes, as an element of a page.

    Args:
        width: in CSS pixels, where letters are as large as the page's small ones.
        height: in CSS pixels.
        title: the drawing's content, for screen readers.
        paint: draws.
    """
    buffer = io.StringIO()
    # The salt keeps what charts refer to inside themselves apart, and the same in each run.
    with rc_context({**STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        paint(figure.add_subplot())
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = buffer.getvalue()
    inside = drawn[drawn.index(">", drawn.index("<svg")) + 1 :]
    inside = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", inside, flags=re.S
    )
    inside = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", inside)  # counters, which charts would share
    inside = re.sub(r"\s*\n\s*", "\n", inside)
    for name, colour in COLOURS.items():
        inside = inside.replace(colour, f"var(--{name})")
    shown = escape(clean(title))
    return Markup(  # noqa: S704 # nosec B704 -- matplotlib escapes the labels
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{shown}">'
        f"<title>{shown}</title>{inside}"
    )


def _rows(axes: Axes, labels: Sequence[str], axis: str) -> None:
    """One row a label, the first above, with nothing drawn but the grid of the figures."""
    y = range(len(labels))
    axes.set_yticks(y, [clean(label) for label in reversed(labels)])
    axes.tick_params(axis="y", length=0, labelsize=11, labelcolor=INK)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=RULE, lw=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(axis)


def ladder(
    names: Sequence[str],
    losses: Mapping[str, float],
    intervals: Mapping[str, Sequence[float] | None],
) -> Markup:
    """Log loss of every forecast with its interval, from the first name above to the last below.

    Args:
        names: forecasts in order.
        losses: by name.
        intervals: by name.
    """

    def paint(axes: Axes) -> None:
        for y, name in enumerate(reversed(names)):
            strong = name == "meta"
            colour = ACCENT if strong else MUTED if name in (*NULLS, BAYES) else INK
            interval = intervals.get(name)
            if interval is not None:
                axes.plot(interval, [y, y], color=colour, lw=3 if strong else 2, alpha=0.75)
            axes.plot(losses[name], y, "o", color=colour, ms=8 if strong else 6)
            axes.annotate(
                f"{losses[name]:.4f}",
                (1.0, y),
                xycoords=("axes fraction", "data"),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                color=ACCENT if strong else INK,
                fontweight="bold" if strong else "normal",
            )
        _rows(axes, names, "log loss, lower is better")

    best = ", ".join(f"{name} {losses[name]:.4f}" for name in names)
    return _draw(390, 60 + 25 * len(names), f"Log loss of each forecast: {best}", paint)


def reliability(predictions: Predictions, c: int) -> Markup:
    """Forecast against share of votes of one class, in the ten bins of ``bins_of``."""
    forecast = predictions.probabilities["meta"]
    bins = bins_of(forecast)[:, c]
    shares = predictions.shares
    won = (predictions.labels == c).astype(np.float64) if shares is None else shares[:, c]
    points = []
    for i in np.unique(bins):
        rows = bins == i
        share, error = clustered(won[rows], predictions.groups[rows])
        error = 1.96 * error if np.isfinite(error) else 0.0
        points.append((forecast[rows, c].mean(), share, error))
    x, y, error = np.array(points).T
    top = min(1.0, np.ceil(10 * max(x.max(), (y + error).max())) / 10)

    def paint(axes: Axes) -> None:
        axes.plot([0, top], [0, top], color=MUTED, lw=1, dashes=(4, 3))
        low, high = np.maximum(y - error, 0), np.minimum(y + error, 1)
        axes.vlines(x, low, high, color=OF_CLASS[c], lw=2, alpha=0.6)
        axes.plot(x, y, color=OF_CLASS[c], lw=1.5, marker=MARKERS[c], ms=6)
        axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        axes.set_xlabel("forecast")
        axes.set_ylabel("share of votes")
        ticks = np.arange(0, top + 1e-9, 0.2)
        axes.set_xticks(ticks, [f"{t:.0%}" for t in ticks])
        axes.set_yticks(ticks, [f"{t:.0%}" for t in ticks])
        axes.grid(color=RULE, lw=0.8)
        axes.set_axisbelow(True)

    description = "; ".join(f"{a:.0%} forecast, {b:.0%} voted" for a, b in zip(x, y, strict=True))
    return _draw(260, 260, f"Reliability of P({CLASS_NAMES[c]}): {description}", paint)


def simplex(predictions: Predictions, c: int) -> Markup:
    """Where the forecasts of the battles with one vote lie among A, B and tie."""
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    forecast = predictions.probabilities["meta"][predictions.labels == c]
    some = np.random.default_rng(SEED).permutation(len(forecast))[: POINTS // 3]
    points = forecast[np.sort(some)] @ corners

    def paint(axes: Axes) -> None:
        outline = corners[[0, 1, 2, 0]]
        axes.plot(*outline.T, color=MUTED, lw=1)
        centre = corners.mean(axis=0)
        for i in range(3):  # from the centre to the middle of each side: where two are level
            middle = (corners.sum(axis=0) - corners[i]) / 2
            axes.plot(*np.array([centre, middle]).T, color=MUTED, lw=1, dashes=(4, 3))
        axes.plot(*points.T, MARKERS[c], color=OF_CLASS[c], ms=3.2, alpha=0.5, mew=0)
        if len(forecast):
            axes.plot(*(forecast.mean(axis=0) @ corners), "+", color=INK, ms=14, mew=2)
        for corner, name, place in zip(
            corners, CLASS_NAMES, ((-8, -4), (8, -4), (0, 8)), strict=True
        ):
            axes.annotate(
                name,
                corner,
                place,
                textcoords="offset points",
                ha="center",
                va="center",
                fontweight="bold",
            )
        axes.set(aspect="equal", xlim=(-0.08, 1.08), ylim=(-0.06, 0.96))
        axes.axis("off")

    mean = forecast.mean(axis=0) if len(forecast) else np.zeros(3)
    description = ", ".join(f"{n} {p:.0%}" for n, p in zip(CLASS_NAMES, mean, strict=True))
    title = f"Forecasts of the {len(forecast):,} battles voted {CLASS_NAMES[c]}; mean {description}"
    return _draw(260, 236, title, paint)


def importance(families: Sequence[str], side: Sequence[float], tie: Sequence[float]) -> Markup:
    """Mean absolute log-odds that each family moves, the largest above."""

    def paint(axes: Axes) -> None:
        y = np.arange(len(families))[::-1]
        axes.barh(y + 0.19, side, 0.36, color=ACCENT, label="which answer wins")
        axes.barh(y - 0.19, tie, 0.36, color=COLOURS["tie"], label="tie or not")
        _rows(axes, families, "mean change of log-odds")
        axes.figure.legend(loc="outside upper right", ncols=2, labelcolor=INK)

    description = ", ".join(
        f"{f} {s:.2f} and {t:.2f}" for f, s, t in zip(families, side, tie, strict=True)
    )
    title = f"Mean change of the log-odds of side and tie by family: {description}"
    return _draw(430, 84 + 26 * len(families), title, paint)


def ablation(
    views: Sequence[str], lower_by: Sequence[float], intervals: Sequence[Sequence[float]]
) -> Markup:
    """How much each view lowers the log loss of all views, with its interval."""

    def paint(axes: Axes) -> None:
        y = np.arange(len(views))[::-1]
        axes.axvline(0, color=MUTED, lw=1)
        axes.hlines(y, *np.array(intervals).T, color=ACCENT, lw=2, alpha=0.75)
        axes.plot(lower_by, y, "o", color=ACCENT, ms=6)
        _rows(axes, [f"without {view}" for view in views], "log loss is higher by")

    description = ", ".join(f"{v} {d:+.4f}" for v, d in zip(views, lower_by, strict=True))
    return _draw(390, 60 + 25 * len(views), f"Log loss gained by each view: {description}", paint)
