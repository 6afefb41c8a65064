"""Compare the architectures: handcrafted signals, frozen language model, fine-tuned one, hybrid.

    python pipelines/compare.py
    python pipelines/compare.py --run runs/votes --labels votes-test-labels.csv

All get the same second stage, untuned by default, and are scored by nested cross-validation on the
training battles; with --labels also on the test battles, by models that learned from all training
battles. Each pair of architectures, and the hybrid without each view, stand beside them. Writes
comparison.json, which the report shows. A comparison that was stopped begins anew.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np

from arena.predictions_file import read_votes
from common.errors import Code, UserError
from common.files import write_json
from common.progress import Progress
from common.run_dir import RunDir
from meta import ablation as compare
from meta.report.figures import lower_by
from meta.report.page import write_report
from meta.stack.dataset import labels_of, read_dataset, without_seen
from meta.stack.nested_cv import CrossValidation, Settings, folds_for, outer_folds, part_scored
from pipelines import cli


def table(found: dict[str, Any]) -> str:
    """The sets, worst first, as lines of text."""
    width = max(len(name) for name in found)
    lines = [f"{'':<{width}} log loss   brier    ECE  accuracy   hybrid is lower by"]
    for name, f in sorted(found.items(), key=lambda item: -item[1]["log_loss"]):
        line = f"{name:<{width}}{f['log_loss']:>9.4f}{f['brier']:>8.4f}{f['ece']:>7.3f}"
        line += f"{f['accuracy']:>10.3f}"
        if "interval" in f:
            line += lower_by(f["hybrid_lower_by"], f["interval"])
        lines.append(line)
    return "\n".join(lines)


def costs_table(stage_one: dict[str, Any], stage_two: dict[str, compare.Cost]) -> str:
    """What each architecture takes, as lines of text; stage one's is what run.json recorded."""
    lines = [
        f"{'':<13}{'stage one':>11} s{'a 1,000':>9} s{'peak':>7} MiB   stage two: trained in"
        f"{'predicts 1,000 in':>19}{'peak':>7} MiB"
    ]
    for kind, cost in stage_two.items():
        one = stage_one.get(kind, {})
        told = (
            f"{one[key]:,.{digits}f}" if one.get(key) else "–"
            for key, digits in (("seconds", 0), ("seconds_per_1000_rows", 1), ("peak_mib", 0))
        )
        lines.append(
            f"{kind:<13}"
            + "".join(f"{x:>{w}}" for x, w in zip(told, (13, 11, 11), strict=True))
            + f"{cost.train_seconds:>22.1f} s{cost.predict_seconds_per_1000_rows:>17.2f} s"
            + f"{cost.peak_mib:>11,.0f}"
        )
    return "\n".join(lines)


def main(arguments: argparse.Namespace) -> None:
    """Compare, while nobody changes the run."""
    run = RunDir(Path(arguments.run))
    run.require_battles("train")
    with run.reading("compare.py"):
        compared(run, arguments)


def compared(run: RunDir, arguments: argparse.Namespace) -> None:
    """Train, score, print, write."""
    evidence = without_seen(read_dataset(run, "train", arguments.views))
    settings = Settings(arguments.folds, arguments.trials, arguments.bags)
    folds = folds_for(evidence, settings.folds)
    if len(evidence.names) < 2:
        raise UserError(
            Code.TOO_FEW_VIEWS, f"{run.folder} has one view only, so there is nothing to compare."
        )
    labels, battles = labels_of(evidence.battles), evidence.battles
    test, votes = None, np.empty(0, dtype=np.int64)
    if arguments.labels:
        test = read_dataset(run, "test", evidence.names)
        votes = read_votes(arguments.labels, test.battles["id"].tolist())
        if not (votes >= 0).any():
            raise UserError(
                Code.VOTES_MISSING,
                f"{arguments.labels} has no vote of any test battle of {run.folder}.",
            )
    sets = {name: views for _, part in compare.variants(evidence) for name, views in part.items()}
    rounds = len(outer_folds(folds)) + bool(arguments.labels)
    with (
        Progress("compare", rounds * len(sets) * (settings.trials + 1), "models") as progress,
        # The run's own studies belong to the one command that changes it.
        TemporaryDirectory() as aside,
    ):
        cv = CrossValidation(evidence, folds, RunDir(Path(aside)), progress.update)
        scored, gaps = compare.nested_sets(cv, settings)
        forecasts = compare.forecasts(cv, settings, test) if test else {}
    costs = compare.costs_of(run, evidence.kinds, settings)
    rows = scored.rows
    groups = battles["group"].to_numpy()
    nested = compare.figures(scored.probabilities, labels[rows], groups[rows])
    found: dict[str, Any] = {
        "sets": {name: list(members) for name, members in sets.items()},
        "nested": nested,
        "strengths": compare.strengths(
            scored.probabilities, labels[rows], groups[rows], battles.iloc[rows]
        ),
        "stage_one": compare.stage_one_costs(run.read_record(), evidence.kinds, len(battles)),
        "stage_two": {kind: asdict(cost) for kind, cost in costs.items()},
        "swap_gap": gaps,
    }
    scored_folds = {"scored": outer_folds(folds), "of": len(np.unique(folds))}
    part = part_scored({"outer_folds": scored_folds, "rows": len(rows)})
    print("\n".join([f"nested, {len(rows):,} training battles", table(nested), *part.splitlines()]))
    print(f"\n{costs_table(found['stage_one'], costs)}\nlargest swap gap {max(gaps.values()):.1e}")
    if test:
        known = votes >= 0
        found["test"] = compare.figures(
            {name: p[known] for name, p in forecasts.items()},
            votes[known],
            test.battles["group"].to_numpy()[known],
        )
        print(f"\n{int(known.sum()):,} test battles\n{table(found['test'])}")
    for kind, f in found["strengths"].items():
        best = "; ".join(s["slice"] for s in f["best_slices"]) or "none"
        print(
            f"{kind}: right {f['right']:.3f}, alone with it {f['right_alone']:.3f}; "
            f"surely best in: {best}"
        )
    write_json(run.comparison, found | run.provenance())
    print(f"comparison: {run.comparison}")
    if run.metrics.exists():
        write_report(run)
        print(f"report: {run.report}")


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument("--labels", metavar="FILE", help="votes of the test battles, if known")
    p.add_argument(
        "--views", metavar="A,B", type=cli.names, help="views to compare (all that the run has)"
    )
    p.add_argument("--trials", type=int, default=0, metavar="N", help="Optuna trials of each set")
    p.add_argument("--folds", type=cli.folds, default=5, metavar="K", help="folds of prompt groups")
    p.add_argument("--bags", type=cli.positive, default=1, metavar="S", help="seeds a fold")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
