"""Cross-fitted judges: of every training battle, logits of a judge that never saw its group.

Fold k of K is ``arena.folds.fold_of`` of the battle's group, as everywhere else. A judge is
addressed by all that changes its weights, the rows that it learned from among them: a finished one
is never trained again, whatever K it was made for, and changed settings begin anew. What a judge
said of a sequence lies beside its weights, by the sequence's own hash.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arena.feature_table import FeatureTable
from arena.swap import SWAP
from common.files import read_json, write_json
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.load import default_device, load_backbone
from embeddings.both_orders import columns, view_values
from embeddings.cache.memory import MemoryStore, Store, kept
from embeddings.cache.shards import ShardWriter, as_keys, ragged, settings_hash
from embeddings.cache.tensor_files import DamagedError, read_tensors, write_tensors
from embeddings.frozen.pair_states import (
    AGAIN,
    PairStates,
    backbone_settings,
    free_gpu,
    with_room,
)
from embeddings.inference import BatchBudget, read_into_store
from embeddings.judge import probe
from embeddings.judge.config import JudgeConfig
from embeddings.judge.dataset import JudgeDataset
from embeddings.judge.head import Head
from embeddings.judge.model import Judge, average
from embeddings.judge.trainer import TRAINING_VERSION, WEIGHTS, Trainer
from embeddings.prompts.chat_template import TEMPLATE_VERSION
from embeddings.prompts.pairs import PackedPair, Pairs, distinct

SETTINGS, MEMBERS = "settings.json", "mean of"

HASHED = (
    *("max_tokens", "top_layers", "rank", "alpha", "dropout", "pool", "head", "epochs", "batch"),
    "read_layers",
    *("lr", "head_lr", "warmup", "weight_decay"),
)
"""What of a recipe changes the weights."""

DISTILLED = ("ce", "kl", "cosine")
"""What changes them where there is a teacher."""

COLUMNS = columns("logits")


class Judges:
    """Trains and queries the judges of one backbone and recipe, each in a folder of its own."""

    def __init__(
        self,
        config: BackboneConfig,
        recipe: JudgeConfig,
        folder: Path,
        every: int,
        shared: dict[Any, Any] | None = None,
    ) -> None:
        """Nothing is loaded or trained yet.

        Args:
            config: the backbone.
            recipe: how it is trained.
            folder: where judges and the output of lower layers lie.
            every: steps between checkpoints.
            shared: where models and what they read stay in memory (``arena.view.View.of_run``);
                without it all that is read lies in ``folder``, and models are dropped.

        Raises:
            UserError: the backbone cannot be had, or lacks the layers that the recipe asks for.
        """
        self.config = with_room(config, recipe.longest)
        self.recipe, self.folder, self.every, self.shared = recipe, folder, every, shared
        self.reads = backbone_settings(config)
        where = folder if shared is None else None
        self.frozen = PairStates(
            self.config, recipe.read_layers, recipe.pool, recipe.top_layers, where, shared
        )

    def prepare(self, train: Pairs, *others: Pairs) -> None:
        """Read what no training changes: the lower layers' output, and what heads start from.

        Args:
            train: the training battles, packed for training.
            others: all that will be read besides.
        """
        self.frozen.fill_lower(distinct(train, *others))
        self.frozen.fill(distinct(train, *(others if self.recipe.looks_at_all else ())))

    def address(self, examples: JudgeDataset) -> Path:
        """The folder of the judge of these examples, whether it is there or not."""
        return self.folder / settings_hash(self._settings(examples))

    def train(self, examples: JudgeDataset, what: str) -> Path:
        """The folder of the judge of these examples, trained now unless it is there.

        Args:
            examples: packed with the recipe's ``max_tokens``.
            what: for people.

        Raises:
            UserError: training failed; one line says what to change.
        """
        folder = self.address(examples)
        write_json(folder / SETTINGS, self._settings(examples))
        if _is_whole(folder / WEIGHTS):
            print(f"{what}: trained already, in {folder}", flush=True)
            return folder
        # Before the model is there: a probe takes twice its states' memory.
        found = self._probe(examples)
        free_gpu()
        judge = Judge(load_backbone(self.config), self.recipe)
        judge.start(found)
        Trainer(judge, examples, self.recipe, folder, self.frozen.inputs).run(self.every, what)
        del judge
        free_gpu()
        return folder

    def average(self, folders: Sequence[Path]) -> Path:
        """The folder of one judge whose matrices are the mean of these judges' matrices."""
        members = [folder.name for folder in folders]
        folder = self.folder / settings_hash({MEMBERS: members})
        write_json(folder / SETTINGS, {MEMBERS: members})
        if not _is_whole(folder / WEIGHTS):
            write_tensors(folder / WEIGHTS, average([f / WEIGHTS for f in folders]))
        return folder

    def logits(self, folder: Path, table: Pairs, what: str) -> tuple[np.ndarray, np.ndarray]:
        """What a judge says of battles in both orders; only what it has not said yet is read.

        The judge is loaded anew: see ``embeddings.judge.model.Judge``.

        Args:
            folder: of the judge.
            table: packed battles, n.
            what: for people.

        Returns:
            Logits float32 (n, 3), A before B and B before A, each in its own sequence's class
            order.
        """
        said = self._said(folder)
        sequences = distinct(table)
        todo = said.missing(sequences)
        if todo and self.recipe.epochs:
            self.frozen.fill_lower(todo)
            self._read(folder, said, todo, what)
            free_gpu()
        elif todo:
            self.frozen.fill(todo)
            self._read_head(folder, said, todo, what)
        forward, swapped = (
            said.rows(said.require(as_keys([s.key for s in side])), "values").reshape(-1, 3)
            for side in (table.forward, table.swapped)
        )
        return forward, swapped

    def _said(self, folder: Path) -> Store:
        """Where the logits of a judge are kept."""
        if self.shared is None:
            return ShardWriter(folder / "logits", rerun_command=AGAIN)
        return kept(self.shared, ("logits", folder), MemoryStore)

    def _read(self, folder: Path, said: Store, todo: Sequence[PackedPair], what: str) -> None:
        """Read sequences with a trained judge."""
        times = len(read_json(folder / SETTINGS).get(MEMBERS, [folder]))
        recipe = replace(
            self.recipe, rank=times * self.recipe.rank, alpha=times * self.recipe.alpha
        )
        # Judges that only predict may take turns on one instance.
        judge = kept(
            self.shared,
            ("judge", self.frozen.name, recipe),
            lambda: Judge(load_backbone(self.config), recipe),
        ).load(self._weights(folder))
        read = partial(judge.read, inputs=self.frozen.inputs)
        if self.config.quantization != "none":
            # bitsandbytes rearranges weights in their first pass: no two threads may do that.
            read(todo[-1:])
        read_into_store(said, todo, read, what, BatchBudget(judge.batch_tokens), ragged)

    def _read_head(self, folder: Path, said: Store, todo: Sequence[PackedPair], what: str) -> None:
        """Logits of a judge that nobody trained: only its head runs, on the frozen states."""
        device = default_device()
        depths = len(self.frozen.layers.reads)
        head = Head.load(self.recipe, depths, self._weights(folder)).to(device)

        def read(batch: Sequence[PackedPair]) -> list[torch.Tensor]:
            with torch.inference_mode():
                return list(head(self._frozen_states(batch).to(device)).cpu().split(1))

        budget = BatchBudget(0 if device.type == "cpu" else self.config.batch_tokens)
        read_into_store(said, todo, read, what, budget, ragged)

    def _weights(self, folder: Path) -> dict[str, torch.Tensor]:
        return kept(
            self.shared,
            ("weights", folder),
            lambda: read_tensors(folder / WEIGHTS, unsigned=True)[0],
        )

    def _frozen_states(self, sequences: Sequence[PackedPair]) -> torch.Tensor:
        """What a head reads of them before any training, float32 (n, states * width)."""
        states = self.frozen.states(sequences).astype(np.float32)
        return torch.from_numpy(states.reshape(len(sequences), -1))

    def _probe(self, examples: JudgeDataset) -> probe.Probe:
        """The probe of these examples, in both orders."""
        where = default_device()
        table = examples.pairs
        targets = np.concatenate([examples.targets, examples.targets[:, SWAP]])
        found = probe.fit(
            self._frozen_states([*table.forward, *table.swapped]).to(where),
            torch.from_numpy(targets).to(where),
            2 * examples.groups,
        )
        print(f"head: starts from a probe of frozen states, penalty {found.penalty:,.0f}")
        return found

    def _settings(self, examples: JudgeDataset) -> dict[str, object]:
        """All that changes the weights, on this machine."""
        rows = hashlib.sha256(examples.targets.tobytes())
        for sequence in (*examples.pairs.forward, *examples.pairs.swapped):
            rows.update(sequence.key)
        recipe = {name: getattr(self.recipe, name) for name in HASHED}
        if examples.teacher is not None:
            rows.update(examples.teacher.tobytes())
            recipe |= {name: getattr(self.recipe, name) for name in DISTILLED}
        return {
            **self.reads,
            "training": TRAINING_VERSION,
            "template": TEMPLATE_VERSION,
            "recipe": recipe,
            "battles": len(examples.targets),
            "rows": rows.hexdigest(),
        }


def crossfit(
    judges: Judges, examples: JudgeDataset, left_out: Sequence[np.ndarray], asked: Pairs
) -> tuple[list[Path], FeatureTable]:
    """Train every judge, and give each training battle the logits of the one that left it out.

    Args:
        judges: of one backbone and recipe.
        examples: the training battles, n, packed for training.
        left_out: what each judge leaves out, bool (n,) each.
        asked: the same battles, packed for prediction.

    Returns:
        The judges' folders, and the view of the training battles; a battle that no judge left out
        has NaN in all columns.

    Raises:
        UserError: training failed.
    """
    folders = []
    values = np.full((len(asked.ids), len(COLUMNS)), np.nan, dtype=np.float32)
    for k, out in enumerate(left_out):
        what = f"judge {k + 1} of {len(left_out)}"
        folders.append(judges.train(examples.take(np.flatnonzero(~out)), what))
        rows = np.flatnonzero(out)
        values[rows] = view_values(
            *judges.logits(folders[-1], asked.take(rows), f"{what} on the battles it left out")
        )
    return folders, FeatureTable(asked.ids, values, COLUMNS)


def unseen(judges: Judges, folders: Sequence[Path], asked: Pairs) -> FeatureTable:
    """The view of battles that no judge saw: the mean over the judges of each column.

    Args:
        judges: of one backbone and recipe.
        folders: of the judges to ask.
        asked: packed battles.
    """
    values = [
        view_values(*judges.logits(f, asked, f"judge {k + 1} of {len(folders)} on the test"))
        for k, f in enumerate(folders)
    ]
    return FeatureTable(asked.ids, np.mean(values, axis=0), COLUMNS)


def _is_whole(weights: Path) -> bool:
    """Whether a judge's weights are there; damaged ones are removed, and said."""
    if not weights.exists():
        return False
    try:
        # A judge of before there was a checksum took hours.
        read_tensors(weights, unsigned=True)
    except DamagedError as error:
        print(f"{weights} is damaged ({error}): removed and made again", file=sys.stderr)
        weights.unlink()
        return False
    return True
