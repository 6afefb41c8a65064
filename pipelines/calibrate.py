"""Calibrate any file of probabilities whose outcomes are known for some rows.

    python pipelines/calibrate.py --probs oof.csv                 writes oof.calibrated.csv
    python pipelines/calibrate.py --probs oof.parquet --out calibrated.csv
    python pipelines/calibrate.py --probs runs/votes/predictions.parquet --view style

FILE (of any format that extract.py reads) has the column id, three probabilities and a label; upper
or lower case, blanks and hyphens in names make no difference:

  probabilities   winner_model_a, winner_model_b, winner_tie; or the same with p_ before each;
                  or prob_a, prob_b, prob_tie; or p_a, p_b, p_tie; or a, b, tie; or logits of these
                  names, or logit_a, logit_b, logit_tie, with --logits; or the predictions of a run,
                  of which meta_uncalibrated is taken, which no calibration has changed yet, or what
                  --view names
  label           label, winner_model or winner: 0 / 1 / 2, or a / b / tie under any name that
                  extract.py knows; or the columns winner_model_a, winner_model_b, winner_tie with a
                  single 1, where the probabilities have another name; blank or -1 where it is
                  unknown. Numbers that are never 0 need --labels-from: is 1 the answer A, or B?
  group, prompt   optional: rows of one group, or of one prompt, share a fold

Rows without a label are calibrated, and not fitted on: append test rows to the out-of-fold rows of
their model. The probabilities must come from models that did not see the labels.

Each method is fitted on nine of ten folds and scored on the tenth; folds are a hash of group,
prompt or id. From the simplest method on, a later one replaces the best so far where its gain
exceeds 1e-4, 1.645 standard errors, and 3 nats over all rows. If none does, the probabilities stay
as they are (a sum that is off by up to .02 is corrected). The kept method is fitted on all labelled
rows, and every row is written, in order: id, winner_model_a, winner_model_b, winner_tie. The
figures printed are those on rows that a fit did not see. The coefficients printed are those of
softmax(d / 2, -d / 2, t) with d = side (log A - log B) + lean and
t = tie log TIE - both (log A + log B) / 2 + bias; a temperature T is side = tie = both = 1 / T.

All methods treat A and B alike, so a forecast with the swap symmetry keeps it. --asymmetric adds
two that do not, for forecasts that favour the answer shown first: lean, a constant on d, and
full_dirichlet, whose penalties are chosen on the nine folds that it is fitted on. The coefficients
of the latter, <to>_<from>, are the weights of log A, log B and log TIE in three logits, and their
constants.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    import runpy

    runpy.run_path(str(Path(__file__).with_name("_script.py")))

import pandas as pd

from arena.predictions_file import read_forecasts
from arena.schema import CLASSES
from common.errors import Code, UserError
from common.files import atomic
from meta.calibration import calibrate
from meta.report.calibration import summary
from pipelines import cli


def output_path(source: str, out: str | None) -> Path:
    """Where to write.

    Raises:
        UserError: that is the input itself, a folder, or not told for a remote input.
    """
    if out is None:
        if "://" in source:
            raise UserError(
                Code.OUTPUT_INVALID,
                f"{source} is not a local file. Name the output with --out FILE.",
            )
        path = Path(source)
        return path.with_name(f"{Path(path.name.removesuffix('.gz')).stem}.calibrated.csv")
    path = Path(out)
    if path.is_dir() or path.resolve() == Path(source).resolve():
        raise UserError(
            Code.OUTPUT_INVALID, f"--out {out} is the input or a folder. Name another file."
        )
    return path


def main(arguments: argparse.Namespace) -> None:
    """Read the forecasts, calibrate them, print what that gains, write all rows."""
    out = output_path(arguments.probs, arguments.out)
    forecasts = read_forecasts(
        arguments.probs,
        logits=arguments.logits,
        view=arguments.view,
        labels_from=arguments.labels_from,
    )
    if forecasts.view:
        print(f"calibrates the out-of-fold predictions of {forecasts.view}")
    result = calibrate(forecasts, asymmetric=arguments.asymmetric)
    print(summary(result))
    table = pd.DataFrame(result.probabilities, columns=list(CLASSES))
    table.insert(0, "id", forecasts.ids)
    data = table.to_csv(index=False, lineterminator="\n").encode()
    if arguments.out is None and out.exists() and out.read_bytes() != data:
        raise UserError(
            Code.OUTPUT_EXISTS, f"{out} exists and has other content. --out {out} replaces it."
        )
    with atomic(out) as temporary:
        temporary.write_bytes(data)
    print(f"calibrated: {out}")


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--probs", metavar="FILE", required=True, help="what to read")
    p.add_argument("--out", metavar="FILE", help="what to write (FILE's stem + .calibrated.csv)")
    p.add_argument("--logits", action="store_true", help="FILE has logits: take their softmax")
    p.add_argument("--view", metavar="NAME", help="view of a run's predictions (meta_uncalibrated)")
    p.add_argument(
        "--labels-from",
        type=int,
        choices=(0, 1),
        metavar="N",
        help="number that stands for A in a column of labels, 0 or 1 (0, where it occurs)",
    )
    p.add_argument("--asymmetric", action="store_true", help="let A and B be treated differently")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
