"""Which columns of a file hold probabilities, and which hold votes.

A triple of columns is in the class order of ``arena.schema.CLASSES``. The predictions of a run
(``predictions.parquet``) have a triple for each of its views, named after it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import NamedTuple

from arena.keyed_rows import KeyedRows, number_in
from arena.schema import CLASSES
from arena.votes import VOTE_COLUMNS, WINNER_COLUMNS, shortened
from common.errors import Code, UserError

PROBABILITIES = (
    tuple(f"p_{name}" for name in CLASSES),
    ("prob_a", "prob_b", "prob_tie"),
    ("p_a", "p_b", "p_tie"),
    ("a", "b", "tie"),
    ("prob_model_a", "prob_model_b", "prob_tie"),
    ("p_model_a", "p_model_b", "p_tie"),
    ("logit_a", "logit_b", "logit_tie"),
    ("logits_a", "logits_b", "logits_tie"),
)
"""Names of the three probabilities beside ``CLASSES``, in class order."""

LABELS = ("label", "winner_model", "winner")
"""Columns that hold the label in one cell."""

MODELS = ("model_a", "model_b")
"""Columns of the models' names, by which a label may name the winner."""

WHOLE = ("meta_uncalibrated", "meta")
"""Views of a run's predictions that are taken unless another is named, the first one present.

Both are out of fold. The first has no calibration yet that another one would have to undo.
"""

NAMED = "; or ".join(", ".join(names) for names in (CLASSES, *PROBABILITIES))
VOTES = f"a column {' or '.join(LABELS)}, or votes of 0 and 1 in {', '.join(CLASSES)}"


class PredictionColumns(NamedTuple):
    """Where a file has its probabilities and its labels."""

    probabilities: Sequence[str]
    """Three names, in class order."""
    labels: list[Sequence[str]]
    """Sets of one or three names, each of which gives the label."""
    view: str
    """The view of a run that the probabilities are of, "" where the file is no run's."""


def view_columns(view: str) -> tuple[str, ...]:
    """Names of the three probabilities of a view in a run's predictions."""
    return tuple(f"{view}.{name}" for name in CLASSES)


def wanted_columns(view: str | None) -> list[str]:
    """Every column that may hold a probability or a label.

    Args:
        view: of a run, whose columns are among them.
    """
    views = [*WHOLE, view] if view else WHOLE
    triples = (CLASSES, *PROBABILITIES, *map(view_columns, views))
    return [*VOTE_COLUMNS, *MODELS, *(name for triple in triples for name in triple)]


def label_columns(file: KeyedRows) -> list[Sequence[str]]:
    """The columns that hold the label in one cell: of other names than ``LABELS``, the first."""
    columns: list[Sequence[str]] = [(name,) for name in LABELS if name in file.columns]
    others = (n for n in WINNER_COLUMNS if len(n) == 1 and file.columns.issuperset(n))
    return columns or list(itertools.islice(others, 1))


def vote_columns(file: KeyedRows) -> list[Sequence[str]]:
    """The sets of columns that hold the votes of a file without probabilities."""
    triples = (names for names in WINNER_COLUMNS if len(names) > 1)
    return [*label_columns(file), *(n for n in triples if file.columns.issuperset(n))]


def has_triple(columns: Collection[str]) -> bool:
    """Whether all three columns of some triple are there."""
    return any(set(triple) <= set(columns) for triple in (CLASSES, *PROBABILITIES))


def prediction_columns(file: KeyedRows, view: str | None = None) -> PredictionColumns:
    """The columns of the probabilities, and those of the label.

    Args:
        file: its rows.
        view: the view of a run's predictions to take; ``None``: a triple that no view owns, else
            the first of ``WHOLE``.

    Raises:
        UserError: no columns hold probabilities, or more than one set does.
    """
    triples: list[Sequence[str]] = [t for t in PROBABILITIES if file.columns.issuperset(t)]
    labels = label_columns(file)
    if file.columns.issuperset(CLASSES):
        numbers = (number_in(row.cells.get(name)) for row in file.rows for name in CLASSES)
        fractions = any(x is not None and x not in (0.0, 1.0, -1.0) for x in numbers)
        # Hard forecasts look like votes, but beside a label they cannot be.
        if fractions or (labels and not triples):
            triples.append(CLASSES)
        else:
            labels.append(CLASSES)
    if view or not triples:
        of_run = _view_of_run(file, view)
        if of_run:
            return PredictionColumns(view_columns(of_run), labels, of_run)
    if len(triples) > 1:
        sets = " and in ".join(", ".join(triple) for triple in triples)
        raise UserError(
            Code.COLUMN_AMBIGUOUS,
            f"{file.source} has probabilities in {sets}. Delete or rename all but one set.",
        )
    if not triples:
        raise _no_probabilities(file)
    return PredictionColumns(triples[0], labels, "")


def _view_of_run(file: KeyedRows, view: str | None) -> str:
    """The view to take; "" where the file has none and none is asked for."""
    last = f".{CLASSES[-1]}"
    views = [name.removesuffix(last) for name in file.columns if name.endswith(last)]
    views = sorted(name for name in views if file.columns.issuperset(view_columns(name)))
    if view:
        if view not in views:
            has = f"Its views are {', '.join(views)}." if views else "It has no views."
            raise UserError(
                Code.COLUMN_MISSING, f"{file.source} has no predictions of a view {view}. {has}"
            )
        return view
    whole = next((name for name in WHOLE if name in views), "")
    if views and not whole:
        raise UserError(
            Code.COLUMN_AMBIGUOUS,
            f"{file.source} has predictions of the views {', '.join(views)}. Name one with --view.",
        )
    return whole


def _no_probabilities(file: KeyedRows) -> UserError:
    columns = file.columns
    nearest = max((*PROBABILITIES, CLASSES), key=lambda t: len(columns & set(t)))
    missing = [n for n in nearest if n not in columns] if columns & set(nearest) else []
    absent = f"column {', '.join(missing)}" if missing else "probabilities"
    return UserError(
        Code.COLUMN_MISSING,
        f"{file.source} has no {absent}. Name the probabilities {NAMED}. "
        f"Its columns are {shortened(sorted(columns))}.",
    )
