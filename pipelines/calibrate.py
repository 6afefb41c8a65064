"""Calibrate any file of probabilities whose outcomes are known for some rows.

    python pipelines/calibrate.py --probs oof.csv                 writes oof.calibrated.csv
    python pipelines/calibrate.py --probs oof.parquet --out calibrated.csv

FILE (CSV, parquet or JSONL) has the column id, three probabilities and a label:

  probabilities   winner_model_a, winner_model_b, winner_tie; or the same with p_ before each;
                  or prob_a, prob_b, prob_tie; or p_a, p_b, p_tie; or a, b, tie
  label           label, winner_model or winner: 0 / 1 / 2, or a / b / tie; or the columns
                  winner_model_a, winner_model_b, winner_tie with a single 1, where the
                  probabilities have another name; blank or -1 where it is not known
  group, prompt   either may be there: rows of one group, or of one prompt, share a fold

A row without a label is calibrated and not fitted on: append test rows to the out-of-fold rows of
their model. The probabilities must come from models that did not see the labels.

Each method is fitted on nine of ten folds and scored on the tenth; folds are a hash of group,
prompt or id. From the simplest on, one is kept if it gains over the one kept before more than 1e-4,
1.645 standard errors, and 3 nats over all rows; if none does, the probabilities are written as they
came (a sum off by up to .02 is mended). Every row is written, in order: id, winner_model_a,
winner_model_b, winner_tie, by one calibrator fitted on all labelled rows; what it is worth on
unseen rows is what is printed, with its parameters: softmax(d / 2, -d / 2, t) of
d = side (log A - log B) + lean and t = tie log TIE - both (log A + log B) / 2 + bias. A temperature
T is side = tie = both = 1 / T.

All methods treat A and B alike, so that a forecast that keeps the swap symmetry goes on to.
--asymmetric adds one that does not, for forecasts that favour the answer shown first.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd

from arena.folds import fold_of
from arena.predictions_file import read_forecasts
from arena.schema import CLASSES, UNKNOWN
from common.errors import UserError
from common.files import atomic
from meta.calibration import (
    ENOUGH,
    METHODS,
    SURE,
    WORTH_IT,
    Calibrator,
    cross_fitted,
    worth_keeping,
)
from meta.metrics.scores import FLOOR, classwise_ece, log_loss, paired_bootstrap, row_losses
from meta.report.figures import fixed

FOLDS = 10
SMALLEST = 20
"""Labelled groups below which there is nothing to compare."""
from pipelines import cli


def compared(found: dict[str, np.ndarray], labels: np.ndarray, groups: np.ndarray) -> str:
    """Out-of-fold figures of each method as lines of text."""
    before = row_losses(found["none"], labels)
    lines = [f"{'out of fold':<14}{'log loss':>9}{'ECE':>8}   lower than none by, 95% interval"]
    for method, p in found.items():
        line = f"{method:<14}{log_loss(p, labels):>9.4f}{classwise_ece(p, labels):>8.4f}"
        if method != "none":
            c = paired_bootstrap(before, row_losses(p, labels), groups)
            line += f"   {fixed(c.difference):>7}  [{fixed(c.low)}, {fixed(c.high)}]"
        lines.append(line)
    return "\n".join(lines)


def shares(before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> str:
    """How often each class occurs and how often it was forecast, as lines of text."""
    lines = [f"{'share':<14}{'labels':>9}{'before':>9}{'after':>9}"]
    for c, name in enumerate(CLASSES):
        values = ((labels == c).mean(), before[:, c].mean(), after[:, c].mean())
        lines.append(f"{name:<14}" + "".join(f"{value:>9.4f}" for value in values))
    return "\n".join(lines)


def leans(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """P(A) - P(B) less what the labels say, mean over rows; 0 where it is within 3 errors."""
    votes = np.eye(3)[labels]
    excess = (probabilities - votes) @ np.array([1.0, -1.0, 0.0])
    mean = float(excess.mean())
    return mean if abs(mean) > 3 * excess.std() / math.sqrt(len(labels)) else 0.0


def destination(source: str, out: str | None) -> Path:
    """Where to write.

    Raises:
        UserError: that is the input itself, a folder, or not told for a remote input.
    """
    if out is None:
        if "://" in source:
            raise UserError(f"{source} is not a local file: say where to write with --out FILE")
        path = Path(source)
        return path.with_name(f"{Path(path.name.removesuffix('.gz')).stem}.calibrated.csv")
    path = Path(out)
    if path.is_dir() or path.resolve() == Path(source).resolve():
        raise UserError(f"--out {out} is the input or a folder: name another file")
    return path


def main(arguments: argparse.Namespace) -> None:
    """Read, compare, fit the kept method on all labelled rows, write all rows."""
    out = destination(arguments.probs, arguments.out)
    forecasts = read_forecasts(arguments.probs)
    known = forecasts.labels != UNKNOWN
    labels, groups = forecasts.labels[known], forecasts.groups[known]
    count = len(np.unique(groups))
    print(f"{len(known):,} rows, {known.sum():,} with a label, in {count:,} groups")
    if count < SMALLEST:
        raise UserError(
            f"{arguments.probs} has labelled rows of {count} groups: "
            f"at least {SMALLEST} are needed to fit and to compare"
        )
    raw = np.log(np.maximum(forecasts.probabilities, FLOOR))
    folds = fold_of(groups, FOLDS)
    methods = (*METHODS, "lean") if arguments.asymmetric else METHODS
    found = {m: cross_fitted(m, raw[known], labels, folds) for m in methods}
    before = found["none"] = forecasts.probabilities[known]
    kept = worth_keeping(found, labels, groups)
    calibrator = Calibrator.fit(kept, raw[known], labels)
    print(compared(found, labels, groups))
    print(shares(before, found[kept], labels))
    lean = leans(before, labels)
    if lean and not arguments.asymmetric:
        favoured, other = "AB" if lean > 0 else "BA"
        print(
            f"the forecasts favour {favoured} over {other} by {abs(lean):.3f} more than the labels"
            ": --asymmetric"
        )
    print(
        f"kept: {kept}, log loss {log_loss(before, labels):.4f} before, "
        f"{log_loss(found[kept], labels):.4f} after"
    )
    if kept == "none":
        print(
            f"no method gains more than {WORTH_IT}, {SURE} standard errors and {ENOUGH:g} nats "
            "over all rows"
        )
    else:
        names = ("side", "tie", "both", "bias", "lean")
        print("  ".join(f"{name} {getattr(calibrator, name):.6g}" for name in names))
    calibrated = forecasts.probabilities if kept == "none" else calibrator(raw)
    table = pd.DataFrame(calibrated, columns=list(CLASSES))
    table.insert(0, "id", forecasts.ids)
    data = table.to_csv(index=False, lineterminator="\n").encode()
    if arguments.out is None and out.exists() and out.read_bytes() != data:
        raise UserError(f"{out} is there with other content: --out {out} replaces it")
    with atomic(out) as temporary:
        temporary.write_bytes(data)
    print(f"calibrated: {out}")


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--probs", metavar="FILE", required=True, help="what to read")
    p.add_argument("--out", metavar="FILE", help="what to write (FILE's stem + .calibrated.csv)")
    p.add_argument("--asymmetric", action="store_true", help="let A and B be treated differently")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
