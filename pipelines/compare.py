"""Compare the architectures: handcrafted signals, frozen language model, fine-tuned one, hybrid.

    python pipelines/compare.py
    python pipelines/compare.py --run runs/votes --labels votes-test-labels.csv

All get the same second stage, untuned by default, and are scored by nested cross-validation on the
training battles; where votes of the test battles are known (--labels, or in their own file) also on
these, by models that learned from all training battles. Each pair of architectures, and the hybrid
without each view, stand beside them. Writes comparison.json, which the report shows. A comparison
that was stopped begins anew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import runpy

    runpy.run_path(str(Path(__file__).with_name("_script.py")))

from common.run_dir import RunDir
from meta.report.figures import lower_by
from meta.stack.nested_cv import Settings, part_scored
from pipelines import cli
from tiebreak.comparison import compare_run


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


def costs_table(stage_one: dict[str, Any], stage_two: dict[str, Any]) -> str:
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
            + f"{cost['train_seconds']:>22.1f} s{cost['predict_seconds_per_1000_rows']:>17.2f} s"
            + f"{cost['peak_mib']:>11,.0f}"
        )
    return "\n".join(lines)


def main(arguments: argparse.Namespace) -> None:
    """Compare, and print the tables."""
    run = RunDir(Path(arguments.run))
    settings = Settings(arguments.folds, arguments.trials, arguments.bags, arguments.forest)
    comparison = compare_run(run, settings, views=arguments.views, votes_file=arguments.labels)
    print(f"nested, {comparison['rows']:,} training battles\n{table(comparison['nested'])}")
    if part := part_scored(comparison):
        print(part)
    print(f"\n{costs_table(comparison['stage_one'], comparison['stage_two'])}")
    print(f"largest swap gap {max(comparison['swap_gap'].values()):.1e}")
    if "test" in comparison:
        print(f"\n{comparison['test_rows']:,} test battles\n{table(comparison['test'])}")
    for architecture, strength in comparison["strengths"].items():
        best = "; ".join(entry["slice"] for entry in strength["best_slices"]) or "none"
        print(
            f"{architecture}: right {strength['right']:.3f}, alone with it "
            f"{strength['right_alone']:.3f}; surely best in: {best}"
        )
    print(f"comparison: {run.comparison}")
    if run.metrics.exists():
        print(f"report: {run.report}")


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument("--labels", metavar="FILE", help="votes of the test battles (their file's own)")
    p.add_argument(
        "--views", metavar="A,B", type=cli.names, help="views to compare (all that the run has)"
    )
    cli.add_second_stage(p, trials=0, bags=1)
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
