"""The view of a fine-tuned language model: what its judges say of any battles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd

from arena.feature_table import FeatureTable
from arena.view import View
from common.errors import Code, UserError
from common.run_dir import RunDir
from embeddings.backbone.load import load_tokenizer
from embeddings.cache.memory import exclusive, kept
from embeddings.frozen.likelihood import recorded_config
from embeddings.judge.config import JudgeConfig
from embeddings.judge.cross_fit import Judges, unseen
from embeddings.judge.trainer import WEIGHTS
from embeddings.prompts.pairs import Pairs, pack_pairs
from embeddings.view_kinds import LOGITS


class JudgeLogits(View):
    """The mean over a view's judges of their logits in both orders, or those of their average."""

    kind = LOGITS

    def __init__(self, name: str, judges: Judges, folders: Sequence[Path]) -> None:
        """The view of finished judges.

        Args:
            name: of the view.
            judges: of one backbone and training configuration.
            folders: of the judges that read battles on which none of them was trained.
        """
        self.name, self.judges, self.folders = name, judges, list(folders)

    @classmethod
    def of_run(cls, run: RunDir, name: str, shared: dict[Any, Any]) -> Self:
        """The judges that ``finetune.py`` made for a view, in memory.

        Raises:
            UserError: the run does not name them, or lacks one; or the backbone cannot be had, or
                is another than they were trained on.
        """
        recorded = run.read_record().get("finetune", {}).get(name, {})
        names = [str(judge) for judge in recorded.get("judges", [])]
        folders = [run.judges / judge for judge in names if re.fullmatch("[0-9a-f]{16}", judge)]
        there = [folder for folder in folders if (folder / WEIGHTS).is_file()]
        if not names or len(there) < len(names):
            raise UserError(
                Code.VIEW_OUTDATED,
                f"{run.folder} lacks judges of its view {name}. Rerun "
                f"`python pipelines/finetune.py --view {name} --run {run.folder}`.",
            )
        training = JudgeConfig.of(recorded["recipe"])
        config = recorded_config(recorded["backbone"])
        judges = Judges(config, training, run.judges, 0, shared)
        if not all(map(judges.trained_on_this_backbone, folders)):
            raise UserError(
                Code.BACKBONE_DIFFERS,
                f"The judges of the view {name} were trained on another model than {config.name} "
                f"is now. Put its files back, or rerun `python pipelines/finetune.py --view {name} "
                f"--run {run.folder}` and train_meta.py.",
            )
        return cls(name, judges, folders)

    def transform(self, battles: pd.DataFrame) -> FeatureTable:
        """The logits for battles that no judge was trained on.

        Args:
            battles: rows of the canonical table with an empty ``reason``, n.

        Raises:
            UserError: the backbone cannot be loaded, or memory does not suffice.
        """
        config, shared = self.judges.config, self.judges.shared
        with exclusive(shared):
            tokenizer = kept(shared, ("tokenizer", config.source), lambda: load_tokenizer(config))
            length = self.judges.training.prediction_tokens
            return self.read(pack_pairs(battles, tokenizer, length))

    def read(self, pairs: Pairs) -> FeatureTable:
        """The same of battles that are packed already."""
        return unseen(self.judges, self.folders, pairs)
