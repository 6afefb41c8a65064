"""A trained run as an object: load it, ask it, train a new one."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from arena.battle_rows import ReadOptions
from arena.battle_table import read_without_texts
from arena.ids import shown_ids
from arena.in_memory import battle_file, battle_of, battles_of
from arena.reader import open_battles
from arena.schema import CLASSES, TIE, Turns
from arena.view import View, view_of_run
from common.errors import Code, UserError
from common.run_dir import RunDir
from meta.explain import Reasons, explain
from meta.stack.dataset import Dataset, compute_dataset, read_dataset
from meta.stack.model_io import shared_model

Table = pd.DataFrame | Iterable[Mapping[str, Any]]
"""Battles in any layout that ``extract.py`` reads: a DataFrame, or a list of dicts."""


class Tiebreak:
    """Predicts which of two answers people prefer, by a trained run.

    The language model is loaded at the first battle that needs it and kept; answers that it has
    read are not read again. What swaps the answers swaps P(A) and P(B) exactly.
    """

    def __init__(self, run: RunDir) -> None:
        """Read the trained model of a run; :meth:`load` does so by its folder.

        Raises:
            UserError: the run has no model, or it is damaged.
        """
        self.run = run
        self._shared: dict[Any, Any] = {}
        self._model = shared_model(run, self._shared)

    @classmethod
    def load(cls, run: str | Path) -> Tiebreak:
        """Load a trained run.

        Args:
            run: its folder, as ``train_meta.py`` or :meth:`train` left it.

        Raises:
            UserError: it is no run, has no trained model, or is damaged.
        """
        return cls(RunDir(Path(run)))

    @classmethod
    def train(
        cls,
        table: Table | str | Path,
        run: str | Path,
        *,
        backbone: str | None = None,
        quantization: str | None = None,
        views: Collection[str] | None = None,
        folds: int = 5,
        trials: int = 20,
        bags: int = 3,
        forest: bool = True,
        reading: ReadOptions | None = None,
    ) -> Tiebreak:
        """Train a run on battles with votes: what ``extract.py`` and ``train_meta.py`` do.

        Killed at any moment, the same call goes on where it stopped.

        Args:
            table: battles with votes: a DataFrame, dicts, or a path or URL of a file.
            run: the run's folder; made where it is not there.
            backbone: a name in ``configs/``, a YAML file or a model folder; by default the
                embedded model, or what the run had before.
            quantization: overrides the backbone's own.
            views: names of the views to use; by default all that the run has. Where none of them
                needs a language model, none reads the battles.
            folds: folds of prompt groups, 3 or more.
            trials: Optuna trials a study.
            bags: boosters.
            forest: whether a forest is pooled with the boosters.
            reading: what votes are called in the table, and how many rows may be set aside; by
                default public names, and strays.

        Raises:
            UserError: the battles are of no use, or the backbone cannot be had.
        """
        # Whoever only predicts need not wait for these.
        from meta.stack.nested_cv import Settings
        from tiebreak.extraction import extract_run
        from tiebreak.extraction_options import ExtractionOptions, takes_language_model
        from tiebreak.training import train_run

        folder, settings = RunDir(Path(run)), Settings(folds, trials, bags, forest)
        reads = views is None or any(map(takes_language_model, views))
        options = ExtractionOptions(backbone, quantization, language_model=reads)
        if isinstance(table, str | Path):
            with open_battles(str(table), labelled=True, options=reading) as file:
                extract_run(folder, {"train": file}, options, "Tiebreak.train")
        else:
            file = battle_file(table, labelled=True, options=reading)
            extract_run(folder, {"train": file}, options, "Tiebreak.train")
        train_run(folder, settings, views=views, command="Tiebreak.train")
        return cls(folder)

    @property
    def class_order(self) -> tuple[str, str, str]:
        """What the three probabilities are of, in order."""
        return CLASSES

    @property
    def tie_rate(self) -> float:
        """Share of ties among the votes that the run was trained on."""
        return float(self._model.baselines.shares[TIE])

    @property
    def views(self) -> dict[str, View]:
        """The views that the model uses, by name; ``transform`` gives their features."""
        return {
            name: view_of_run(self.run, name, kind, self._shared)
            for name, kind in self._model.kinds.items()
        }

    def predict_proba(
        self,
        battles: Table | str | Turns,
        response_a: str | Turns | None = None,
        response_b: str | Turns | None = None,
        *,
        tie_rate: float | None = None,
    ) -> np.ndarray:
        """Calibrated probabilities of A, B and a tie.

        Args:
            battles: a table of n battles; or one prompt, with both answers: a text, or a list with
                a text for each turn. In a table of pairs A is the chosen answer.
            response_a: answer A to the one prompt.
            response_b: answer B.
            tie_rate: share of ties where the votes are collected, from 0 to 1; by default that of
                the run's training votes. See :func:`shift_tie_rate`.

        Returns:
            float64 (3,) for one pair, (n, 3) for a table, in its order. A row of a table that
            cannot be used gets the training prior; a warning says how many and why the first.

        Raises:
            UserError: the pair cannot be used, the table is of no layout, or what the model takes
                cannot be had.
        """
        single, table = _as_table(battles, response_a, response_b)
        probabilities = self._predict(table)
        if tie_rate is not None:
            probabilities = shift_tie_rate(probabilities, self.tie_rate, tie_rate)
        first: np.ndarray = probabilities[0] if single else probabilities
        return first

    def explain(
        self,
        battles: Table | str | Turns,
        response_a: str | Turns | None = None,
        response_b: str | Turns | None = None,
    ) -> pd.DataFrame:
        """Reasons for predictions, as ``submit.py --explain`` writes them.

        Args:
            battles: as for :meth:`predict_proba`; rows that cannot be used have no reasons.
            response_a: answer A to the one prompt.
            response_b: answer B.

        Returns:
            One row a battle: ``id``; ``side.<family>`` and ``tie.<family>``, the log-odds that a
            family of evidence adds towards A and towards a tie, before calibration; the same sums
            by view, ``view.side.<view>`` and ``view.tie.<view>``; ``tie.base``; and ``words``.
            Where no row can be used there are no rows, and no columns of families and views.
        """
        _, table = _as_table(battles, response_a, response_b)
        valid = table[table["reason"] == ""].reset_index(drop=True)
        if valid.empty:
            return pd.DataFrame({"id": [], "tie.base": [], "words": []})
        return self.reasons(self._dataset(valid)).frame()

    def predict_split(self, split: str) -> tuple[pd.DataFrame, np.ndarray, Dataset | None]:
        """Predict the battles of a split of the run, whose evidence is on disk.

        Args:
            split: ``train`` or ``test``; training rows get values that saw them.

        Returns:
            The split's canonical table without texts, n rows; probabilities, float64 (n, 3), with
            the training prior for rows that were set aside; and the evidence of the others, if
            there are some.

        Raises:
            UserError: the evidence is missing or outdated.
        """
        table = read_without_texts(self.run.require_battles(split))
        if not (table["reason"] == "").any():
            return table, self._with_prior(table, None), None
        dataset = read_dataset(self.run, split, self._model.views)
        return table, self._with_prior(table, self._model.predict(dataset)), dataset

    def reasons(self, dataset: Dataset) -> Reasons:
        """Reasons for the predictions of battles whose evidence is there, with their file's ids."""
        stacker = self._model.meta
        reasons = explain(stacker, self._model.design(dataset))
        return replace(reasons, ids=shown_ids(dataset.battles).tolist())

    def _dataset(self, valid: pd.DataFrame) -> Dataset:
        return compute_dataset(self.run, valid, self._model.kinds, self._shared)

    def _predict(self, table: pd.DataFrame) -> np.ndarray:
        reasons = table["reason"].to_numpy()
        aside = np.flatnonzero(reasons != "")
        if len(aside):
            warnings.warn(
                f"{len(aside):,} of {len(table):,} rows cannot be used and get the training prior; "
                f"the first, row {aside[0]}: {reasons[aside[0]]}",
                stacklevel=3,
            )
        valid = table[reasons == ""].reset_index(drop=True)
        predicted = self._model.predict(self._dataset(valid)) if len(valid) else None
        return self._with_prior(table, predicted)

    def _with_prior(self, table: pd.DataFrame, predicted: np.ndarray | None) -> np.ndarray:
        """Probabilities of every row: what was predicted for valid ones, the prior for others."""
        probabilities = np.tile(self._model.baselines.shares, (len(table), 1))
        if predicted is not None:
            probabilities[(table["reason"] == "").to_numpy()] = predicted
        return probabilities


def shift_tie_rate(probabilities: np.ndarray, own: float, rate: float) -> np.ndarray:
    """Probabilities where another share of the votes are ties.

    The prior shift of Saerens et al. 2002 ("Adjusting the outputs of a classifier to new a priori
    probabilities"): each class is weighted by how much more often it occurs, and all are divided by
    their sum. A and B keep their ratio.

    Args:
        probabilities: float64 (n, 3).
        own: share of ties that they were made for, above 0 and below 1.
        rate: the new share, from 0 (no ties) to 1.

    Raises:
        UserError: the rate is no share.
    """
    if not 0 <= rate <= 1:
        raise UserError(Code.OPTION_INVALID, f"The tie rate {rate} is not between 0 and 1.")
    decided = (1 - rate) / (1 - own)
    shifted = probabilities * np.array([decided, decided, rate / own])
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _as_table(
    battles: Table | str | Turns,
    response_a: str | Turns | None,
    response_b: str | Turns | None,
) -> tuple[bool, pd.DataFrame]:
    """Whether one pair was given, and its canonical table or that of all battles."""
    if (response_a is None) != (response_b is None):
        raise UserError(Code.USAGE, "One pair needs a prompt and both answers.")
    if response_a is not None and response_b is not None:
        return True, battle_of(battles, response_a, response_b)  # type: ignore[arg-type]
    if isinstance(battles, str):
        raise UserError(
            Code.USAGE, "A prompt needs both answers: predict_proba(prompt, answer_a, answer_b)."
        )
    return False, battles_of(battles, labelled=False, chosen_first=True)
