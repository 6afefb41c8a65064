"""What calibration costs a file that needs none, and what it leaves of a known distortion.

    python benchmarks/calibration.py              some minutes
    python benchmarks/calibration.py --quick      one

Each file holds forecasts with known true probabilities and votes drawn from them; the forecasts are
the truth, or the truth distorted. ``meta.calibration.select_calibrator`` picks and fits a method as
calibrate.py does. Its excess is exact: the mean of sum p log(p / q) over 20,000 fresh rows, in
nats. Two kinds of forecasts take turns: logits of a standard normal, and such as people's votes
give (sides with a deviation of 1.2, ties less likely and less spread).

k parameters that are fitted on n rows by maximum likelihood leave about chi-squared(k) / (2 n),
whatever the method: k / (2 n) in the mean, and its 98% point in the worst of some 50 files. Both
stand beside the figures for the number of parameters that the distortion has.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
from scipy.special import log_softmax
from scipy.stats import chi2

from arena.schema import SEED
from meta.calibration import select_calibrator
from pipelines import cli

FRESH = 20_000
FOLDS = 10
DEMANDS = {"none": 1e-4}
RECOVERED = 2e-3
"""Largest excess that is asked for (issue 4): of a file that was calibrated, and of all others."""


@dataclass(frozen=True)
class Distortion:
    """What is done to the true logits (n, 3), and how many parameters undo it."""

    name: str
    parameters: int
    of: Callable[[np.ndarray], np.ndarray]


def tempered(t: float) -> Distortion:
    """Logits times ``t``."""
    return Distortion(f"times {t:g}", 1, lambda z: z * t)


def tied(shift: float, t: float = 1.0) -> Distortion:
    """The tie's logit moved by ``shift``, and all times ``t``."""
    name = f"tie {shift:+g}" + (f", times {t:g}" if t != 1 else "")
    return Distortion(name, 1 + (t != 1), lambda z: (z + np.array([0, 0, shift])) * t)


DISTORTIONS = (
    Distortion("none", 0, lambda z: z),
    *(tempered(t) for t in (0.4, 0.7, 1.3, 2.0)),
    *(tied(s) for s in (-1.0, -0.4, 0.4, 1.0)),
    *(tied(s, t) for s, t in ((-0.7, 1.6), (0.7, 0.6))),
)


def logits(n: int, rng: np.random.Generator, real: bool) -> np.ndarray:
    """True log-probabilities of n battles, (n, 3)."""
    z = rng.normal(size=(n, 3))
    if real:
        side, tie = 1.2 * z[:, 0], 0.5 * z[:, 2] - 0.6
        z = np.stack([side / 2, -side / 2, tie], axis=1)
    return np.asarray(log_softmax(z, axis=1))


def excess(n: int, distortion: Distortion, seed: int) -> tuple[float, float, str]:
    """Excess of one file before and after, nats, and the method that was kept."""
    rng = np.random.default_rng([SEED, n, seed])
    real = bool(seed % 2)
    z, fresh = logits(n, rng, real), logits(FRESH, rng, real)
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    chosen, _ = select_calibrator(distortion.of(z), labels, rng.integers(0, FOLDS, n))
    p, forecast = np.exp(fresh), distortion.of(fresh)
    after = (p * (fresh - np.log(chosen(forecast)))).sum(axis=1).mean()
    before = (p * (fresh - log_softmax(forecast, axis=1))).sum(axis=1).mean()
    return float(before), float(after), chosen.name


def main(arguments: argparse.Namespace) -> None:
    """Print a line for each size and distortion."""
    start = time.perf_counter()
    files, sizes = arguments.files, arguments.rows
    if arguments.quick:
        files, sizes = min(files, 10), [2_000, 4_000]
    print(
        f"{'rows':>6}  {'distortion':<17}{'before':>8}{'mean':>9}{'worst':>9}  over the demand"
        f"{'':<4}theory mean, 98%   kept"
    )
    for n in sizes:
        for distortion in DISTORTIONS:
            results = [excess(n, distortion, seed) for seed in range(files)]
            before, after, kept = zip(*results, strict=True)
            demand = DEMANDS.get(distortion.name, RECOVERED)
            k = max(distortion.parameters, 1)
            theory = (k / (2 * n), chi2.ppf(0.98, k) / (2 * n)) if distortion.parameters else (0, 0)
            counts = ", ".join(f"{m} {c}" for m, c in Counter(kept).most_common())
            print(
                f"{n:>6}  {distortion.name:<17}{abs(np.mean(before)):>8.4f}{np.mean(after):>9.5f}"
                f"{max(after):>9.5f}  {sum(a > demand for a in after):>3} of {files} > {demand:g}"
                f"{theory[0]:>11.5f}{theory[1]:>9.5f}   {counts}",
                flush=True,
            )
    print(f"{time.perf_counter() - start:.0f} seconds")


if __name__ == "__main__":
    p = cli.parser(__doc__)
    p.add_argument("--files", type=cli.positive, default=60, metavar="N", help="files of each kind")
    p.add_argument(
        "--rows",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[1_000, 2_000, 4_000, 10_000],
        metavar="X,Y",
        help="labelled rows of a file",
    )
    p.add_argument("--quick", action="store_true", help="10 files of 2,000 and 4,000 rows")
    sys.exit(cli.run(main, p.parse_args()))
