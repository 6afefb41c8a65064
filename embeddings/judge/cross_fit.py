"""Cross-fitted judges: of every training battle, logits of a judge that never saw its group.

Fold k of K is ``arena.folds.fold_of`` of the battle's group, as everywhere else. A judge is
addressed by all that changes its weights, the rows that it learned from among them: a finished one
is never trained again, whatever K it was made for, and changed settings begin anew. What a judge
said of a sequence lies beside its weights, by the sequence's own hash.
"""

from __future__ import annotations

import gc
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from arena.feature_table import FeatureTable
from arena.swap import SWAP
from common.files import read_json, write_json
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.layers import LayerRange
from embeddings.backbone.load import (
    default_device,
    fingerprint,
    load_backbone,
    model_config,
    model_folder,
)
from embeddings.both_orders import columns, view_values
from embeddings.cache.shards import ShardWriter, as_keys, settings_hash
from embeddings.cache.tensor_files import DamagedError, read_tensors, write_tensors
from embeddings.frozen.pair_states import AGAIN
from embeddings.inference import fill
from embeddings.judge import probe
from embeddings.judge.config import JudgeConfig
from embeddings.judge.dataset import JudgeDataset
from embeddings.judge.layer_cache import fill_lower
from embeddings.judge.model import Judge, average, token_ids
from embeddings.judge.trainer import TRAINING_VERSION, WEIGHTS, Trainer
from embeddings.prompts import pairs
from embeddings.prompts.chat_template import TEMPLATE_VERSION
from embeddings.prompts.pairs import Pairs, distinct

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
    """Trains and asks the judges of one backbone and recipe, each in a folder of its own."""

    def __init__(
        self, config: BackboneConfig, recipe: JudgeConfig, folder: Path, every: int
    ) -> None:
        """Nothing is loaded or trained yet.

        Args:
            config: the backbone.
            recipe: how it is trained.
            folder: where judges and the output of lower layers lie.
            every: steps between checkpoints.

        Raises:
            UserError: the backbone cannot be had, or lacks the layers that the recipe asks for.
        """
        longest = recipe.longest
        self.config = replace(
            config, max_tokens=longest, batch_tokens=max(config.batch_tokens, longest)
        )
        self.recipe, self.folder, self.every = recipe, folder, every
        self.reads = {
            "model": fingerprint(model_folder(config)),
            "dtype": config.dtype,
            "quantization": config.quantization,
        }
        self.span = LayerRange.of(
            recipe.depths, recipe.top_layers, model_config(model_folder(config)).num_hidden_layers
        )
        self.lower: ShardWriter | None = None
        self.frozen = self._store("frozen", pool=recipe.pool, reads=recipe.read_layers)

    def prepare(self, train: Pairs, *others: Pairs) -> None:
        """Read what no training changes: the lower layers' output, and what heads start from.

        Args:
            train: the training battles, packed for training.
            others: all that will be read besides.
        """
        if self.recipe.top_layers:
            self.lower = self._store("lower", begin=self.span.begin)
            fill_lower(self.lower, distinct(train, *others), self.config, self.recipe)
            _free()
        todo = self.frozen.lacking(distinct(train, *(others if self.recipe.looks_at_all else ())))
        if todo:
            # LoRA begins at zero: a judge that nobody trained reads what its backbone reads.
            judge = Judge(load_backbone(self.config), self.recipe).eval()
            look = partial(judge.look, inputs=self._inputs)
            fill(self.frozen, todo, look, "frozen states", judge.batch_tokens, _stacked)
            del judge, look
            _free()

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
        _free()
        judge = Judge(load_backbone(self.config), self.recipe)
        judge.start(found)
        Trainer(judge, examples, self.recipe, folder, self._inputs).run(self.every, what)
        del judge
        _free()
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
        said = ShardWriter(folder / "logits", again=AGAIN)
        todo = said.lacking(distinct(table))
        if todo:
            times = len(read_json(folder / SETTINGS).get(MEMBERS, [folder]))
            recipe = replace(
                self.recipe, rank=times * self.recipe.rank, alpha=times * self.recipe.alpha
            )
            judge = Judge(load_backbone(self.config), recipe).load(
                read_tensors(folder / WEIGHTS, unsigned=True)[0]
            )
            read = partial(self._ask, judge)
            fill(said, todo, read, what, judge.batch_tokens)
            del judge, read
            _free()
        forward, swapped = (
            said.rows(said.require(as_keys([s.key for s in side])), "values").reshape(-1, 3)
            for side in (table.forward, table.swapped)
        )
        return forward, swapped

    def _ask(self, judge: Judge, batch: Sequence[pairs.PackedPair]) -> list[torch.Tensor]:
        """Logits of sequences, (1, 3) each; of a judge that nobody trained no reading is needed."""
        if self.recipe.epochs:
            return judge.read(batch, self._inputs)
        with torch.inference_mode():
            return list(judge.head(self._frozen_states(batch).to(judge.where)).cpu().split(1))

    def _frozen_states(self, sequences: Sequence[pairs.PackedPair]) -> torch.Tensor:
        """What a head reads of them before any training, float32 (n, states * width)."""
        places = self.frozen.require(as_keys([s.key for s in sequences]))
        states = self.frozen.rows(places, "states").astype(np.float32)
        return torch.from_numpy(states.reshape(len(sequences), -1))

    def _store(self, name: str, **settings: object) -> ShardWriter:
        folder = self.folder / f"{name}-{settings_hash({**self.reads, **settings})}"
        return ShardWriter(folder, again=AGAIN)

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

    def _inputs(self, sequence: pairs.PackedPair) -> torch.Tensor:
        return token_ids(sequence) if self.lower is None else self.lower.get(sequence.key)

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


def _stacked(items: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"states": torch.stack(list(items))}


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


def _free() -> None:
    """Give a dropped model's memory back to the GPU before the next is loaded."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
