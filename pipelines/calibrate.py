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
prompt or id. From the simplest on, one is kept if it gains over the one kept before more than 1e-4
and 1.645 standard errors; if none does, the probabilities are written as they came (a sum off by
up to .02 is mended). Every row is written, in order: id, winner_model_a, winner_model_b,
winner_tie, by one calibrator fitted on all labelled rows; what it is worth on unseen rows is what
is printed, with its parameters: softmax(d / 2, -d / 2, t) of d = side (log A - log B) + lean and
t = tie log TIE - both (log A + log B) / 2 + bias. A temperature T is side = tie = both = 1 / T.

All methods treat A and B alike, so that a forecast that keeps the swap symmetry goes on to.
--asymmetric adds one that does not, for forecasts that favour the answer shown first.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines import cli

if __name__ == "__main__":
    cli.leave_on_interrupt()

import numpy as np
import pandas as pd

from arena.battle import CLASSES, UNKNOWN, digest
from arena.errors import UserError
from arena.files import atomic
from arena.groups import fold_of, prompt_hash
from arena.layouts import WINNERS, Cells, Damaged, DamagedRowError, decode_json, winner_of
from arena.readers import FORMULA
from arena.sources import Source, is_encodable, read_source
from meta.calibrate import METHODS, SURE, WORTH_IT, Calibrator, cross_fitted, worth_keeping
from meta.scores import FLOOR, classwise_ece, log_loss, paired_bootstrap, row_losses

PROBABILITIES = (
    tuple(f"p_{name}" for name in CLASSES),
    ("prob_a", "prob_b", "prob_tie"),
    ("p_a", "p_b", "p_tie"),
    ("a", "b", "tie"),
)
"""Names of the three probabilities beside ``CLASSES``, in class order."""

LABELS = ("label", "winner_model", "winner")
"""Columns that tell the label in one cell."""

BLANK = ("", "-1", "-1.0", "nan", "none", "null")
"""A cell of a label that is not known, in lower case."""

FORMS = (
    f"it needs id; probabilities named {'; or '.join(', '.join(n) for n in PROBABILITIES)}; "
    f"or {', '.join(CLASSES)}; and a column {' or '.join(LABELS)}, or votes of 0 and 1 in "
    f"{', '.join(CLASSES)}"
)

DRIFT = 0.02
"""How far a sum of probabilities may be from 1: three of two decimals each are off by .015."""

FOLDS = 10
SMALLEST = 20
"""Labelled groups below which there is nothing to compare."""


@dataclass(frozen=True)
class Forecasts:
    """A file of probabilities as read."""

    ids: list[str]
    probabilities: np.ndarray
    """float64 (n, 3), each row sums to 1."""
    labels: np.ndarray
    """int64 (n,), -1 where unknown."""
    groups: np.ndarray
    """Group of each row, 16 hex digits, (n,)."""


def read_forecasts(source: str) -> Forecasts:
    """Read a file of probabilities and labels; columns as in this module's docstring.

    Args:
        source: local path or any URL that fsspec opens.

    Raises:
        UserError: a column is missing or ambiguous, a row is damaged, an id occurs twice, three
            numbers are no probabilities, a label is none.
    """
    names = [name for triple in (CLASSES, *PROBABILITIES) for name in triple]
    found = read_source(source, ["id", "group", "prompt", *LABELS, *names])
    if "id" not in found.columns:
        raise UserError(f"{source} has no column id: {FORMS}")
    if not found.rows:
        raise UserError(f"{source} has no rows: give forecasts, some of them with a label")
    ids = _ids(source, found)
    triple, label_columns = _columns(source, found)
    probabilities = _probabilities(source, ids, found, triple)
    labels = np.array([_label(source, ids, i, found, label_columns) for i in range(len(ids))])
    return Forecasts(ids, probabilities, labels, _groups(ids, found))


def _at(source: str, i: int, name: str) -> str:
    return f"{source}, row {i + 1} (id {name[:40]})"


def _ids(source: str, found: Source) -> list[str]:
    ids: dict[str, int] = {}
    for i, row in enumerate(found.rows):
        cell = row.cells.get("id")
        name = "" if cell is None else str(cell)
        if row.damage:
            raise UserError(f"{_at(source, i, ascii(name))}: {row.damage}: mend or drop the row")
        if not name or not is_encodable(name) or FORMULA.match(name):
            raise UserError(f"{source}, row {i + 1}: the id is missing, not text or a formula")
        if name in ids:
            raise UserError(
                f"{_at(source, i, name)}: row {ids[name] + 1} has the same id: drop one of them"
            )
        ids[name] = i
    return list(ids)


def _columns(source: str, found: Source) -> tuple[Sequence[str], list[Sequence[str]]]:
    """The columns of the probabilities, and those that tell the label: one or three names each."""
    columns = set(found.columns)
    triples: list[Sequence[str]] = [t for t in PROBABILITIES if columns.issuperset(t)]
    labels: list[Sequence[str]] = [(name,) for name in LABELS if name in columns]
    if columns.issuperset(CLASSES):
        numbers = (_number(row.cells.get(name)) for row in found.rows for name in CLASSES)
        fractions = any(x is not None and x not in (0.0, 1.0, -1.0) for x in numbers)
        # Hard forecasts look like votes, but beside a label they cannot be.
        if fractions or (labels and not triples):
            triples.append(CLASSES)
        else:
            labels.append(CLASSES)
    if len(triples) > 1:
        sets = " and in ".join(", ".join(triple) for triple in triples)
        raise UserError(f"{source} has probabilities in {sets}: drop or rename all but one set")
    if not triples:
        nearest = max((*PROBABILITIES, CLASSES), key=lambda t: len(columns & set(t)))
        lacking = [n for n in nearest if n not in columns] if columns & set(nearest) else []
        what = f"column {', '.join(lacking)}" if lacking else "probabilities"
        raise UserError(f"{source} has no {what}: {FORMS}")
    if not labels:
        raise UserError(f"{source} has no labels: {FORMS}")
    return triples[0], labels


def _number(cell: Any) -> float | None:
    try:
        return None if cell is None else float(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def _probabilities(
    source: str, ids: Sequence[str], found: Source, names: Sequence[str]
) -> np.ndarray:
    numbers = np.empty((len(ids), 3))
    for i, row in enumerate(found.rows):
        for c, name in enumerate(names):
            cell = row.cells.get(name)
            number = _number(cell)
            if number is None or not math.isfinite(number) or number < 0:
                told = "is empty" if cell in (None, "") else f"is {str(cell)[:40]!r}"
                raise UserError(f"{_at(source, i, ids[i])}: {name} {told}, not a probability")
            numbers[i, c] = number
    sums = numbers.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1) > DRIFT)
    if len(off):
        i = int(off[0])
        raise UserError(
            f"{_at(source, i, ids[i])}: {', '.join(names)} sum to {sums[i]:.6g}, not to 1"
        )
    normalised: np.ndarray = numbers / sums[:, None]
    return normalised


def _label(
    source: str, ids: Sequence[str], i: int, found: Source, columns: Sequence[Sequence[str]]
) -> int:
    """The label of row ``i``, which every one of ``columns`` must tell alike."""
    cells = found.rows[i].cells
    try:
        told = [_told(cells, names) for names in columns]
    except DamagedRowError as damage:
        raise UserError(f"{_at(source, i, ids[i])}: {damage}") from None
    if len(set(told)) > 1:
        both = " and ".join(names[0] for names in columns)
        raise UserError(f"{_at(source, i, ids[i])}: {both} tell different labels: drop one")
    return told[0]


def _told(cells: Cells, names: Sequence[str]) -> int:
    texts = ["" if cells.get(name) is None else str(cells[name]).strip() for name in names]
    if all(text.lower() in BLANK for text in texts):
        return UNKNOWN
    if len(names) > 1:
        return winner_of(cells, names)
    number = _number(texts[0])
    if number in (0, 1, 2):
        return int(number)
    label = WINNERS.get(re.sub("[^a-z]", "", texts[0].lower()))
    if label is None:
        raise DamagedRowError(f"{names[0]} is {texts[0][:40]!r}, not 0, 1, 2, a, b or tie")
    return label


def _groups(ids: Sequence[str], found: Source) -> np.ndarray:
    """Group of each row by its group, else its prompt, else its id, as 16 hex digits."""
    by_group = "group" in found.columns
    if not by_group:
        decode_json(found.rows, ["prompt"])
    groups = []
    for name, row in zip(ids, found.rows, strict=True):
        cell = row.cells.get("group" if by_group else "prompt")
        if cell is None or cell == "" or isinstance(cell, Damaged):
            groups.append(digest([["id", name]]))
        elif by_group:
            groups.append(digest([["group", str(cell)]]))
        else:
            sound = isinstance(cell, list) and all(isinstance(t, str | None) for t in cell)
            groups.append(prompt_hash(cell if sound else [str(cell)], [name], []))
    return np.array(groups)


def compared(found: dict[str, np.ndarray], labels: np.ndarray, groups: np.ndarray) -> str:
    """Out-of-fold figures of each method as lines of text."""
    before = row_losses(found["none"], labels)
    lines = [f"{'out of fold':<14}{'log loss':>9}{'ECE':>8}   lower than none by, 95% interval"]
    for method, p in found.items():
        line = f"{method:<14}{log_loss(p, labels):>9.4f}{classwise_ece(p, labels):>8.4f}"
        if method != "none":
            c = paired_bootstrap(before, row_losses(p, labels), groups)
            line += f"   {c.difference:>7.4f}  [{c.low:.4f}, {c.high:.4f}]"
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
        print(f"the forecasts favour A over B by {lean:+.3f} more than the labels: --asymmetric")
    print(
        f"kept: {kept}, log loss {log_loss(before, labels):.4f} before, "
        f"{log_loss(found[kept], labels):.4f} after"
    )
    if kept == "none":
        print(f"no method gains more than {WORTH_IT} and {SURE} standard errors")
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
