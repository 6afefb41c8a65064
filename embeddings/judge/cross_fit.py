"""Cross-fitted judges: of every training battle, logits of a judge that never saw its group.

Fold k of K is ``arena.folds.fold_of`` of the battle's group, as everywhere else. A judge is
addressed by all that changes its weights, its training rows among them: a finished one is never
trained again, whatever K it was made for, and changed settings begin anew. A judge's logits lie
beside its weights, by the hash of the sequence.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from arena.feature_table import FeatureTable
from arena.swap import SWAP
from common.files import read_json, write_json
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import default_device
from embeddings.backbone.load import load_backbone, model_settings
from embeddings.both_orders import columns, view_values
from embeddings.cache.memory import MemoryStore, Store, kept
from embeddings.cache.shards import ShardWriter, as_keys, ragged, settings_hash
from embeddings.cache.tensor_files import DamagedError, read_tensors, write_tensors
from embeddings.frozen.pair_states import (
    FINETUNE,
    PairStates,
    free_gpu,
    with_room,
)
from embeddings.inference import BatchBudget, read_into_store
from embeddings.judge.config import JudgeConfig
from embeddings.judge.dataset import JudgeDataset
from embeddings.judge.head import Head
from embeddings.judge.model import Judge, average
from embeddings.judge.probe import Probe, fit_probe
from embeddings.judge.replicas import JudgeReaders, judge_weights
from embeddings.judge.trainer import TRAINING_VERSION, WEIGHTS, Trainer
from embeddings.prompts.chat_template import TEMPLATE_VERSION
from embeddings.prompts.pairs import PackedPair, Pairs, distinct

SETTINGS, MEMBERS = "settings.json", "mean of"

HASHED = (
    *("max_tokens", "top_layers", "rank", "alpha", "dropout", "pool", "head", "epochs", "batch"),
    "read_layers",
    *("lr", "head_lr", "warmup", "weight_decay"),
)
"""What of a training configuration changes the weights."""

DISTILLED = ("ce", "kl", "cosine")
"""What changes them where there is a teacher."""

COLUMNS = columns("logits")


class Judges:
    """Trains and queries the judges of one backbone and training, each in a folder of its own.

    What reads with them, here or in worker processes, stays loaded until the context ends, or a
    judge is trained.
    """

    def __init__(
        self,
        config: BackboneConfig,
        training: JudgeConfig,
        folder: Path,
        checkpoint_steps: int,
        shared: dict[Any, Any] | None = None,
    ) -> None:
        """Nothing is loaded or trained yet.

        Args:
            config: the backbone.
            training: how it is trained.
            folder: where judges and the output of lower layers lie.
            checkpoint_steps: steps between checkpoints.
            shared: where models and what they read stay in memory (``arena.view.View.of_run``);
                without it all that is read lies in ``folder``, and models are dropped.

        Raises:
            UserError: the backbone cannot be had, or lacks the layers that the training needs.
        """
        self.config = with_room(config, training.longest)
        self.training, self.folder, self.shared = training, folder, shared
        self.checkpoint_steps = checkpoint_steps
        self.frozen = PairStates(
            self.config,
            training.read_layers,
            training.pool,
            training.top_layers,
            folder if shared is None else None,
            shared,
        )
        self._readers = JudgeReaders(self.frozen, shared)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._readers.release()

    def prepare(self, train: Pairs, *others: Pairs) -> None:
        """Read what no training changes: the lower layers' output, and what heads start from.

        Args:
            train: the training battles, packed for training.
            others: all that will be read besides.
        """
        self.frozen.fill_lower(distinct(train, *others))
        self.frozen.fill(distinct(train, *(others if self.training.reads_all_battles else ())))

    def address(self, dataset: JudgeDataset) -> Path:
        """The folder of the judge of these battles, whether it is there or not."""
        return self.folder / settings_hash(self._settings(dataset))

    def trained_on_this_backbone(self, folder: Path) -> bool:
        """Whether a judge was; of a mean of judges, whether those that are still there were."""
        if not (folder / SETTINGS).exists():
            return True
        settings = read_json(folder / SETTINGS)
        if MEMBERS in settings:
            members = [self.folder / name for name in settings[MEMBERS]]
            return all(map(self.trained_on_this_backbone, members))
        backbone = model_settings(self.config)
        return {name: settings.get(name) for name in backbone} == backbone

    def train(self, dataset: JudgeDataset, label: str) -> Path:
        """The folder of the judge of these battles, trained now unless it is there.

        Args:
            dataset: packed with ``max_tokens`` of the training configuration.
            label: of the progress bar.

        Raises:
            UserError: training failed; one line says what to change.
        """
        folder = self.address(dataset)
        write_json(folder / SETTINGS, self._settings(dataset))
        if _is_whole(folder / WEIGHTS):
            print(f"{label}: trained already, in {folder}", flush=True)
            return folder
        # Before the model is loaded: a probe takes twice the memory of its states.
        probe = self._probe(dataset)
        # One that has predicted must not be trained (``Judge``), and there may be no room for both.
        self._readers.release()
        free_gpu()
        judge = Judge(
            load_backbone(self.config, trains=True, layers=self.frozen.layers.end), self.training
        )
        judge.start(probe)
        trainer = Trainer(judge, dataset, self.training, folder, self.frozen.inputs)
        trainer.run(self.checkpoint_steps, label)
        del judge, trainer
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

    def logits(self, folder: Path, pairs: Pairs, label: str) -> tuple[np.ndarray, np.ndarray]:
        """The logits of a judge for battles in both orders; only missing ones are computed.

        Args:
            folder: of the judge.
            pairs: packed battles, n.
            label: of the progress bar.

        Raises:
            UserError: the judge's weights are damaged, the backbone cannot be loaded, or memory
                does not suffice.

        Returns:
            Logits float32 (n, 3), A before B and B before A, each in its own sequence's class
            order.
        """
        store = self._logits_store(folder)
        missing = store.missing(distinct(pairs))
        if missing and self.training.epochs:
            if self.frozen.lower_missing(missing):
                # Worker processes open that output when they start.
                self._readers.release()
                self.frozen.fill_lower(missing)
            times = len(read_json(folder / SETTINGS).get(MEMBERS, [folder]))
            rank, alpha = times * self.training.rank, times * self.training.alpha
            training = replace(self.training, rank=rank, alpha=alpha)
            self._readers.read(folder / WEIGHTS, training, store, missing, label)
        elif missing:
            self.frozen.fill(missing)
            self._read_head(folder, store, missing, label)
        forward, swapped = (
            store.rows(store.require(as_keys([s.key for s in order])), "values").reshape(-1, 3)
            for order in (pairs.forward, pairs.swapped)
        )
        return forward, swapped

    def _logits_store(self, folder: Path) -> Store:
        """Where the logits of a judge are kept."""
        if self.shared is None:
            return ShardWriter(folder / f"logits{self.frozen.suffix}", rerun_command=FINETUNE)
        return kept(self.shared, ("logits", folder), MemoryStore)

    def _read_head(
        self, folder: Path, store: Store, sequences: Sequence[PackedPair], label: str
    ) -> None:
        """With epochs=0 only the head runs, on cached states."""
        device = default_device()
        depths = len(self.frozen.layers.reads)
        weights = kept(self.shared, ("weights", folder), lambda: judge_weights(folder / WEIGHTS))
        head = Head.load(self.training, depths, weights).to(device)

        def read(batch: Sequence[PackedPair]) -> list[torch.Tensor]:
            with torch.inference_mode():
                return list(head(self._frozen_states(batch).to(device)).cpu().split(1))

        budget = BatchBudget(0 if device.type == "cpu" else self.config.batch_tokens)
        read_into_store(store, sequences, read, label, budget, ragged)

    def _frozen_states(self, sequences: Sequence[PackedPair]) -> torch.Tensor:
        """What a head reads of them before any training, float32 (n, states * width)."""
        states = self.frozen.states(sequences).astype(np.float32)
        return torch.from_numpy(states.reshape(len(sequences), -1))

    def _probe(self, dataset: JudgeDataset) -> Probe:
        """The probe of these battles, in both orders."""
        device, pairs = default_device(), dataset.pairs
        targets = np.concatenate([dataset.targets, dataset.targets[:, SWAP]])
        probe = fit_probe(
            self._frozen_states([*pairs.forward, *pairs.swapped]).to(device),
            torch.from_numpy(targets).to(device),
            2 * dataset.groups,
        )
        print(f"head: starts from a probe of frozen states, penalty {probe.penalty:,.0f}")
        return probe

    def _settings(self, dataset: JudgeDataset) -> dict[str, object]:
        """All that changes the weights, on this machine."""
        rows = hashlib.sha256(dataset.targets.tobytes())
        for sequence in (*dataset.pairs.forward, *dataset.pairs.swapped):
            rows.update(sequence.key)
        names = HASHED if dataset.teacher is None else (*HASHED, *DISTILLED)
        if dataset.teacher is not None:
            rows.update(dataset.teacher.tobytes())
        return {
            **model_settings(self.config),
            "training": TRAINING_VERSION,
            "template": TEMPLATE_VERSION,
            "recipe": {name: getattr(self.training, name) for name in names},
            "battles": len(dataset.targets),
            "rows": rows.hexdigest(),
        }


def crossfit(
    judges: Judges, dataset: JudgeDataset, val_masks: Sequence[np.ndarray], pairs: Pairs
) -> tuple[list[Path], FeatureTable]:
    """Train every judge, and give each training battle the logits of the one that left it out.

    Args:
        judges: of one backbone and training configuration.
        dataset: the training battles, n, packed for training.
        val_masks: what each judge leaves out, bool (n,) each.
        pairs: the same battles, packed for prediction.

    Returns:
        The judges' folders, and the view of the training battles; a battle that no judge left out
        has NaN in all columns.

    Raises:
        UserError: training failed.
    """
    values = np.full((len(pairs.ids), len(COLUMNS)), np.nan, dtype=np.float32)
    labels = [f"judge {k + 1} of {len(val_masks)}" for k in range(len(val_masks))]
    folders = [
        judges.train(dataset.take(np.flatnonzero(~val_mask)), label)
        for val_mask, label in zip(val_masks, labels, strict=True)
    ]
    # All are trained first, so that they read on one base.
    for folder, val_mask, label in zip(folders, val_masks, labels, strict=True):
        rows = np.flatnonzero(val_mask)
        values[rows] = view_values(
            *judges.logits(folder, pairs.take(rows), f"{label} on the battles it left out")
        )
    return folders, FeatureTable(pairs.ids, values, COLUMNS)


def unseen(judges: Judges, folders: Sequence[Path], pairs: Pairs) -> FeatureTable:
    """The view of battles that no judge saw: the mean over the judges of each column.

    Args:
        judges: of one backbone and training configuration.
        folders: of the judges that read them.
        pairs: packed battles.
    """
    values = [
        view_values(*judges.logits(f, pairs, f"judge {k + 1} of {len(folders)} on the test"))
        for k, f in enumerate(folders)
    ]
    return FeatureTable(pairs.ids, np.mean(values, axis=0), COLUMNS)


def _is_whole(weights: Path) -> bool:
    """Whether a judge's weights are there; damaged ones are removed, with a message."""
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
