"""``report.html``: all results of a run as one page that opens offline and runs no script.

Every text of a battle is untrusted: ``meta.report.text`` makes it visible, Jinja escapes it, and
the page's Content-Security-Policy allows neither scripts nor anything from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from arena.battle_table import read_battles_groups
from common.errors import Code, UserError
from common.files import atomic
from common.parquet import read_table
from common.run_dir import RunDir
from meta.ablation import HYBRID
from meta.explain import title_of
from meta.metrics.scores import guesses
from meta.metrics.slices import WINNER
from meta.report import charts
from meta.report.figures import BAYES, fixed, footing, order_of
from meta.report.mistakes import QUESTIONS, describe_mistakes
from meta.report.text import clean
from meta.stack.nested_cv import part_scored
from meta.stack.predictions import Predictions

NOTES = {
    "uniform": "a third each",
    "prior": "the shares of the votes",
    "length": "the length of the answers alone",
    "meta_uncalibrated": "all views, before calibration",
    "meta": "all views, calibrated: the model",
    BAYES: "the true probabilities of the simulated votes",
}
COLUMNS = {
    "log_loss": "log loss",
    "brier": "Brier",
    "accuracy": "accuracy",
    "ece": "ECE",
    "auc": "AUC",
}


def write_report(run: RunDir) -> None:
    """Draw the page from the files of the run; the same files give the same bytes.

    Raises:
        UserError: ``train_meta.py`` has not been run, or a file is damaged.
    """
    if not run.metrics.exists():
        raise UserError(
            Code.FIGURES_MISSING,
            f"{run.folder} has no figures. Run `python pipelines/train_meta.py` first.",
        )
    metrics = run.read_result(run.metrics, "train_meta.py")
    if "intervals" not in metrics:
        raise UserError(
            Code.FIGURES_OUTDATED,
            f"{run.metrics} is older than the report. Rerun train_meta.py.",
        )
    predictions = Predictions.read(run.predictions)
    reasons = None
    if run.reasons.exists():
        reasons = read_table(run.reasons, made_by="train_meta.py").to_pandas()
    battles = read_battles_groups(run.require_battles("train"))
    current = {**run.provenance(), "model": {"hash": metrics["model"].get("hash")}}
    outdated = []
    evaluation = None
    if run.evaluation.exists():
        evaluation = run.read_result(run.evaluation, "evaluate.py")
        if not _is_current(evaluation, current, "train", "test"):
            evaluation = None
            outdated.append("evaluate.py")
    if run.comparison.exists():
        comparison = run.read_result(run.comparison, "compare.py")
        if not _is_current(comparison, current, "train"):
            outdated.append("compare.py")
        else:
            if not _is_current(comparison, current, "test"):
                comparison["test"] = {}
            metrics |= comparison_parts(comparison)
    inputs = run.read_record().get("inputs", {})
    page = render(
        run.folder.resolve().name,
        metrics,
        predictions,
        reasons,
        battles,
        evaluation,
        outdated=outdated,
        file=str(inputs.get("train", {}).get("file", "")),
        simulated=run.is_sample("train"),
    )
    with atomic(run.report) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _is_current(figures: Mapping[str, Any], current: Mapping[str, Any], *splits: str) -> bool:
    """Whether a file's figures are of the model and the splits of ``RunDir.provenance``."""
    inputs = figures.get("inputs", {})
    return figures.get("model", {}).get("hash") == current["model"]["hash"] and all(
        inputs.get(split) == current["inputs"].get(split) for split in splits
    )


def comparison_parts(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """The results of ``compare.py`` by section of the page: architectures, costs, ablation.

    Args:
        comparison: the content of ``comparison.json``.
    """
    sets, without = comparison["nested"], f"{HYBRID} without "
    return {
        "architectures": {
            name: {
                **scores,
                "test": comparison.get("test", {}).get(name, {}).get("log_loss"),
                "right_alone": comparison["strengths"].get(name, {}).get("right_alone"),
            }
            for name, scores in sets.items()
            if not name.startswith(without)
        },
        "costs": {
            kind: {
                "before": comparison.get("stage_one", {}).get(kind, {}),
                **cost,
                "swap_gap": comparison["swap_gap"][kind],
            }
            for kind, cost in comparison.get("stage_two", {}).items()
        },
        "ablation": {
            name.removeprefix(without): {
                "log_loss": scores["log_loss"],
                "lower_by": scores["hybrid_lower_by"],
                "interval": scores["interval"],
            }
            for name, scores in sets.items()
            if name.startswith(without)
        },
    }


def render(
    name: str,
    metrics: Mapping[str, Any],
    predictions: Predictions,
    reasons: pd.DataFrame | None,
    battles: Iterable[pd.DataFrame],
    evaluation: Mapping[str, Any] | None,
    *,
    outdated: Sequence[str] = (),
    file: str,
    simulated: bool,
) -> str:
    """The page.

    Args:
        name: of the run.
        metrics: ``metrics.json``, with :func:`comparison_parts` where there is a comparison.
        predictions: of the scored rows.
        reasons: ``reasons.parquet``, where there is one.
        battles: the canonical table that the scored rows are of, in successive parts.
        evaluation: ``evaluation.json``, where the run has a scored hold-out.
        outdated: commands whose figures are of other battles or another model, and left out.
        file: the training file.
        simulated: whether the votes are the sample's.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.filters |= {
        "figure": fixed,
        "span": _span,
        "dash": _dash,
        "percent": "{:.0%}".format,
    }
    return environment.get_template("page.html.j2").render(
        name=name,
        file=Path(file).name,
        simulated=simulated,
        metrics=metrics,
        evaluation=evaluation,
        outdated=outdated,
        columns=COLUMNS,
        part_scored=part_scored(metrics),
        footing=footing(metrics["model"]),
        ladder=_ladder(metrics),
        evaluation_ladder=_ladder(evaluation) if evaluation is not None else None,
        charts=_charts(metrics, predictions),
        confusion=_confusion(predictions),
        strip=_strip(metrics),
        evaluation_strip=_strip(evaluation) if evaluation is not None else None,
        mistakes=describe_mistakes(predictions, reasons, battles),
        class_names=charts.CLASS_NAMES,
        class_keys=("a", "b", "tie"),
    )


def _ladder(figures: Mapping[str, Any]) -> dict[str, Any]:
    names = order_of(figures)
    in_chart = [n for n in names if n != "meta_uncalibrated"]
    return {
        "names": names,
        "notes": {n: NOTES.get(n, "this view alone") for n in names},
        "chart": charts.ladder(in_chart, figures["log_loss"], figures["intervals"]["log_loss"]),
    }


def _charts(metrics: Mapping[str, Any], predictions: Predictions) -> dict[str, Any]:
    drawn: dict[str, Any] = {
        "importance": None,
        "ablation": None,
        "reliability": [charts.reliability(predictions, c) for c in range(3)],
        "simplex": [charts.simplex(predictions, c) for c in range(3)],
    }
    if by_family := metrics.get("importance"):
        drawn["importance"] = charts.importance(
            [title_of(family) for family in by_family],
            *([size[question] for size in by_family.values()] for question in QUESTIONS),
        )
    if by_view := metrics.get("ablation"):
        views = sorted(by_view, key=lambda view: -by_view[view]["lower_by"])
        drawn["ablation"] = charts.ablation(
            views,
            [by_view[view]["lower_by"] for view in views],
            [by_view[view]["interval"] for view in views],
        )
    return drawn


def _confusion(predictions: Predictions) -> list[list[dict[str, Any]]]:
    """By vote and most probable class: rows, and their share of the rows with that vote.

    A row with equally probable classes counts for each of them in part.
    """
    counts = np.eye(3)[predictions.labels].T @ guesses(predictions.probabilities["meta"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        [{"rows": round(float(counts[i, j]), 1), "share": float(shares[i, j])} for j in range(3)]
        for i in range(3)
    ]


def _strip(figures: Mapping[str, Any]) -> dict[str, float]:
    """Log losses at 0 and 100 of the small charts beside the slices: somewhat beyond all of them.

    Slices by winner are left out: their log losses are far from all others by nature.
    """
    slices, whole = figures["slices"], figures["log_loss"]["meta"]
    ends = [whole, *(s["log_loss"] for f, parts in slices.items() if f != WINNER for s in parts)]
    room = 0.25 * (max(ends) - min(ends)) + 1e-9
    low, high = min(ends) - room, max(ends) + room
    return {"low": low, "per": 100 / (high - low), "whole": whole}


def _span(interval: Sequence[float | None] | None, digits: int = 3, to: str = " to ") -> str:
    """An interval in words, empty where there is none."""
    if interval is None or interval[0] is None or interval[1] is None:
        return ""
    low, high = (fixed(end, digits) for end in interval)
    return "" if low == high else f"{low}{to}{high}"


def _dash(interval: Sequence[float | None] | None, digits: int = 3) -> str:
    """An interval as short as it can be read."""
    above = interval is not None and interval[0] is not None and interval[0] >= 0
    return _span(interval, digits, "–" if above else " to ")
