"""The view ``likelihood``: how likely the frozen language model finds the answers."""

from __future__ import annotations

from typing import Any, Self

import pandas as pd

from arena.feature_table import FeatureTable
from arena.view import View
from common.errors import Code, UserError
from common.files import expanded
from common.parquet import read_notes
from common.run_dir import RunDir
from embeddings.backbone.config import BackboneConfig, load_config, valid_config
from embeddings.backbone.runtime import TORCH
from embeddings.cache.memory import kept
from embeddings.frozen.language_model import LanguageModel
from embeddings.view_kinds import LIKELIHOOD


class Likelihood(View):
    """Log-probabilities, entropies and the like of both answers, by the run's language model."""

    kind = LIKELIHOOD

    def __init__(self, name: str, model: LanguageModel, source: str = "") -> None:
        """The view of a model.

        Args:
            name: of the view.
            model: reads the answers.
            source: what ``model.source`` must be; "" where any will do.
        """
        self.name, self.model, self.source = name, model, source

    @classmethod
    def of_run(cls, run: RunDir, name: str, shared: dict[Any, Any]) -> Self:
        """The view of the run's language model, which reads as it read the training battles.

        Raises:
            UserError: the run has no language model that could be loaded.
        """
        path = run.views / name / "train.parquet"
        source = read_notes(path).get("source", "") if path.exists() else ""
        return cls(name, language_model_of(run, shared), source)

    def transform(self, battles: pd.DataFrame) -> FeatureTable:
        """The columns of ``likelihood_view`` for these battles.

        Raises:
            UserError: the model cannot be had, or is another than read the training battles.
        """
        if self.source and self.model.source != self.source:
            raise UserError(
                Code.BACKBONE_DIFFERS,
                f"The training battles were read by another model than {self.model.config.name} "
                "is now, or with other settings. Put its files back, or rerun "
                "`python pipelines/extract.py --train FILE` with this run.",
            )
        return self.model.read(battles).likelihood


def language_model_of(run: RunDir, shared: dict[Any, Any]) -> LanguageModel:
    """The language model that made a run's evidence, made once; nothing heavy is loaded yet.

    Args:
        run: the run.
        shared: as ``arena.view.View.of_run`` has it; two views of a run share one model there.

    Raises:
        UserError: the run has no language model, or its files are gone.
    """
    return kept(shared, ("language model", run.folder), lambda: _language_model(run))


def _language_model(run: RunDir) -> LanguageModel:
    record = run.read_record().get("backbone")
    if record is None:
        raise UserError(
            Code.SPLIT_NOT_EXTRACTED,
            f"{run.folder} has no language model. Run `python pipelines/extract.py --train FILE "
            f"--run {run.folder}` first.",
        )
    config = recorded_config(record)
    if expanded(config.source).is_absolute() and not expanded(config.source).is_dir():
        raise UserError(
            Code.BACKBONE_MOVED,
            f"The language model of {run.folder} was in {config.source}, which no longer exists. "
            "Put the folder back.",
        )
    return LanguageModel(config, record.get("engine", TORCH))


def recorded_config(record: dict[str, Any]) -> BackboneConfig:
    """The backbone that a run's record names.

    Args:
        record: ``backbone`` of run.json; what an older version wrote lacks ``config``.

    Raises:
        UserError: its settings cannot be had or are not valid.
    """
    if "config" in record:
        return valid_config(record["config"], "The backbone in run.json")
    return load_config(record["asked"], record["quantization"])
