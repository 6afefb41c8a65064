"""A trained second stage: all that predicts new battles once their views are there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arena.feature_table import FeatureTable
from arena.view import ViewKind
from meta.base_models import Model
from meta.base_models.baselines import Baselines
from meta.stack.dataset import Dataset
from meta.stack.stacker import Stacker

META = "meta"
"""The name of the stacker of all views."""


@dataclass(frozen=True)
class TrainedModel:
    """Stackers and what their views are learned by."""

    stackers: dict[str, Stacker]
    """By name: each view alone, and ``meta`` of all of them."""
    base_models: dict[str, Model]
    """Of each view that learns from votes, the fit on all of them."""
    baselines: Baselines
    kinds: dict[str, ViewKind]
    """Kinds of the views, by name."""

    @property
    def meta(self) -> Stacker:
        """The stacker of all views."""
        return self.stackers[META]

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views that it was trained on."""
        return self.meta.views

    def design(self, dataset: Dataset) -> FeatureTable:
        """The design matrix of battles that no model saw.

        Raises:
            UserError: a view is missing, or is not the one that the model was trained with.
        """
        return self.meta.design(dataset.unseen(self.base_models))

    def predict(self, dataset: Dataset) -> np.ndarray:
        """Calibrated probabilities of battles that no model saw, float64 (n, 3).

        Raises:
            UserError: as of :meth:`design`.
        """
        return self.meta.predict(self.design(dataset))
