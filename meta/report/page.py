"""``report.html``: everything that a run found, as one page that opens offline and runs no script.

Every text of a battle is untrusted: ``meta.report.text`` makes it visible, Jinja escapes it, and
the page's Content-Security-Policy allows neither scripts nor anything from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from arena.battle_table import read_battles_table
from common.errors import Code, UserError
from common.files import atomic
from common.parquet import read_table
from common.run_dir import RunDir
from meta.ablation import HYBRID
from meta.explain import MIN_CONTRIBUTION, title_of
from meta.metrics.scores import guesses
from meta.metrics.slices import WINNER
from meta.report import charts
from meta.report.figures import BAYES, fixed, footing, order_of
from meta.report.mistakes import QUESTIONS, confident_mistakes, families
from meta.report.text import Shown, clean, shown
from meta.stack.nested_cv import part_scored
from meta.stack.predictions import Predictions

MOST_REASONS = 4

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


@dataclass(frozen=True)
class Reason:
    """A family's share in a forecast."""

    family: str
    towards: str
    """Names a CSS class: a, b, tie, decisive."""
    words: str
    size: float
    """Log-odds, above 0."""


@dataclass(frozen=True)
class Mistake:
    """A battle whose vote the model did not expect."""

    battle: str
    vote: int
    forecast: list[float]
    prompt: Shown
    answers: list[Shown]
    models: list[str]
    reasons: list[Reason] | None


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
    found = run.read_result(run.metrics, "train_meta.py")
    if "intervals" not in found:
        raise UserError(
            Code.FIGURES_OUTDATED,
            f"{run.metrics} is older than the report. Rerun train_meta.py.",
        )
    predictions = Predictions.read(run.predictions)
    reasons = None
    if run.reasons.exists():
        reasons = read_table(run.reasons, made_by="train_meta.py").to_pandas()
    battles = read_battles_table(run.require_battles("train"))
    now = {**run.provenance(), "model": {"hash": found["model"].get("hash")}}
    held = None
    if run.evaluation.exists():
        held = run.read_result(run.evaluation, "evaluate.py")
    comparison = None
    if run.comparison.exists():
        comparison = run.read_result(run.comparison, "compare.py")
    stale = []
    if held is not None and not _is_of(held, now, "train", "test"):
        held = None
        stale.append("evaluate.py")
    if comparison is not None and not _is_of(comparison, now, "train"):
        stale.append("compare.py")
    elif comparison is not None:
        if not _is_of(comparison, now, "test"):
            comparison["test"] = {}
        found |= compared(comparison)
    inputs = run.read_record().get("inputs", {})
    page = render(
        run.folder.resolve().name,
        found,
        predictions,
        reasons,
        battles,
        held,
        stale=stale,
        file=str(inputs.get("train", {}).get("file", "")),
        simulated=run.is_sample("train"),
    )
    with atomic(run.report) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _is_of(found: Mapping[str, Any], now: Mapping[str, Any], *splits: str) -> bool:
    """Whether a file's figures are of the model and the splits of ``RunDir.provenance``."""
    inputs = found.get("inputs", {})
    return found.get("model", {}).get("hash") == now["model"]["hash"] and all(
        inputs.get(split) == now["inputs"].get(split) for split in splits
    )


def compared(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """What ``compare.py`` found, as the page shows it: ``architectures``, ``costs``, ``ablation``.

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
    found: Mapping[str, Any],
    predictions: Predictions,
    reasons: pd.DataFrame | None,
    battles: pd.DataFrame,
    held: Mapping[str, Any] | None,
    *,
    stale: Sequence[str] = (),
    file: str,
    simulated: bool,
) -> str:
    """The page.

    Args:
        name: of the run.
        found: ``metrics.json``.
        predictions: of the scored rows.
        reasons: ``reasons.parquet``, where there is one.
        battles: the canonical table that the scored rows are of.
        held: ``evaluation.json``, where the run has a scored hold-out.
        stale: commands whose figures are of other battles or of another model, and left out.
        file: that the battles came from.
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
    environment.filters |= {"figure": fixed, "span": _span, "dash": _dash, "percent": _percent}
    return environment.get_template("page.html.j2").render(
        name=name,
        file=Path(file).name,
        simulated=simulated,
        found=found,
        held=held,
        stale=stale,
        columns=COLUMNS,
        part_scored=part_scored(found),
        footing=footing(found["model"]),
        ladder=_ladder(found),
        held_ladder=_ladder(held) if held is not None else None,
        charts=_charts(found, predictions),
        confusion=_confusion(predictions),
        strip=_strip(found),
        held_strip=_strip(held) if held is not None else None,
        mistakes=_mistakes(predictions, reasons, battles),
        verdicts=_verdicts(found["audit"]),
        class_names=charts.CLASS_NAMES,
        class_keys=("a", "b", "tie"),
    )


def _ladder(found: Mapping[str, Any]) -> dict[str, Any]:
    names = order_of(found)
    drawn = [n for n in names if n != "meta_uncalibrated"]
    return {
        "names": names,
        "notes": {n: NOTES.get(n, "this view alone") for n in names},
        "chart": charts.ladder(drawn, found["log_loss"], found["intervals"]["log_loss"]),
    }


def _charts(found: Mapping[str, Any], predictions: Predictions) -> dict[str, Any]:
    drawn: dict[str, Any] = {
        "importance": None,
        "ablation": None,
        "reliability": [charts.reliability(predictions, c) for c in range(3)],
        "simplex": [charts.simplex(predictions, c) for c in range(3)],
    }
    if found.get("importance"):
        parts = found["importance"]
        drawn["importance"] = charts.importance(
            [title_of(f) for f in parts], *([p[q] for p in parts.values()] for q in QUESTIONS)
        )
    if found.get("ablation"):
        parts = dict(sorted(found["ablation"].items(), key=lambda item: -item[1]["lower_by"]))
        drawn["ablation"] = charts.ablation(
            list(parts),
            [p["lower_by"] for p in parts.values()],
            [p["interval"] for p in parts.values()],
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


def _strip(found: Mapping[str, Any]) -> dict[str, float]:
    """Where 0 and 100 lie in the small charts beside the slices: somewhat beyond all of them.

    Slices by winner are left out, which are far from everything else by their nature.
    """
    slices, whole = found["slices"], found["log_loss"]["meta"]
    ends = [whole, *(s["log_loss"] for f, parts in slices.items() if f != WINNER for s in parts)]
    room = 0.25 * (max(ends) - min(ends)) + 1e-9
    low, high = min(ends) - room, max(ends) + room
    return {"low": low, "per": 100 / (high - low), "whole": whole}


def _verdicts(audit: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {v: sum(f["verdict"] == v for f in audit) for v in ("pass", "fail", "not applicable")}


def _mistakes(
    predictions: Predictions, reasons: pd.DataFrame | None, battles: pd.DataFrame
) -> list[Mistake]:
    by_id = battles.drop_duplicates("id").set_index("id")
    forecast = predictions.probabilities["meta"]
    why = None if reasons is None else reasons.set_index("id")
    found = []
    for row in confident_mistakes(forecast, predictions.labels):
        battle = predictions.ids[row]
        if battle not in by_id.index:
            raise UserError(
                Code.FIGURES_OUTDATED,
                f"Battle {battle} of predictions.parquet is not among the run's. "
                "Rerun train_meta.py.",
            )
        texts = by_id.loc[battle]
        found.append(
            Mistake(
                battle,
                int(predictions.labels[row]),
                forecast[row].tolist(),
                shown(texts["prompt"]),
                [shown(texts["response_a"]), shown(texts["response_b"])],
                [texts["model_a"], texts["model_b"]],
                None if why is None or battle not in why.index else _reasons(why.loc[battle]),
            )
        )
    return found


def _reasons(row: pd.Series[Any]) -> list[Reason]:
    """The strongest contributions of a battle, of both questions together."""
    found = []
    ends = {
        "side": (("a", "for A"), ("b", "for B")),
        "tie": (("tie", "for a tie"), ("decisive", "against a tie")),
    }
    for question, (up, down) in ends.items():
        for family in families(row.index):
            value = float(row[f"{question}.{family}"])
            if abs(value) >= MIN_CONTRIBUTION:
                towards, words = up if value > 0 else down
                found.append(Reason(title_of(family), towards, words, abs(value)))
    return sorted(found, key=lambda r: (-r.size, r.family))[: 2 * MOST_REASONS]


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _span(interval: Sequence[float | None] | None, digits: int = 3, to: str = " to ") -> str:
    """An interval in words, empty where there is none to speak of."""
    if interval is None or interval[0] is None or interval[1] is None:
        return ""
    low, high = (fixed(end, digits) for end in interval)
    return "" if low == high else f"{low}{to}{high}"


def _dash(interval: Sequence[float | None] | None, digits: int = 3) -> str:
    """An interval as short as it can be read."""
    above = interval is not None and interval[0] is not None and interval[0] >= 0
    return _span(interval, digits, "–" if above else " to ")
