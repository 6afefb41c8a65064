"""Fine-tune the language model of a run: every judge that is missing, then the views on disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from arena.battle_table import texts_hash
from arena.folds import held_out
from arena.predictions_file import read_probabilities
from common.errors import Code, UserError
from common.lock import run_lock
from common.parallel import peak_mib
from common.parquet import read_notes
from common.run_dir import RunDir
from embeddings.backbone.config import BackboneConfig, finetune_entries
from embeddings.backbone.device import machine
from embeddings.backbone.load import load_tokenizer
from embeddings.cache.shards import settings_hash
from embeddings.frozen.extract import warn_non_finite
from embeddings.frozen.machine import machine_lines
from embeddings.frozen.pair_states import VIEW as JOINT
from embeddings.frozen.pair_states import write_joint
from embeddings.frozen.plan import counting_tokenizer
from embeddings.judge.config import FOR_TRAINING, JudgeConfig
from embeddings.judge.costs import estimate_finetuning
from embeddings.judge.cross_fit import Judges, crossfit
from embeddings.judge.dataset import JudgeDataset
from embeddings.judge.model import check_trainable
from embeddings.judge.parallel_training import train_on_devices
from embeddings.judge.trainer import seconds_of
from embeddings.judge.view import JudgeLogits
from embeddings.prompts.pairs import Pairs, pack_pairs
from embeddings.replicas import check_devices
from embeddings.view_kinds import LOGITS
from meta.votes import describe, scored_votes, shares_of, training_votes, weights_of
from tiebreak.last_options import backbone_entry, log_loss_of, resolved, valid_battles
from tiebreak.run_record import chosen_backbone, record_costs

NONE = "none"
"""Takes back a file that the run's last fine-tuning had."""

DEFAULTS = {"folds": 5, "average_adapters": False, "soft_labels": NONE, "teacher": NONE}
"""Options beside those of ``JudgeConfig``."""


@dataclass(frozen=True)
class FinetuneOptions:
    """A fine-tuning, resolved: as named, else as the last time, else the default."""

    view: str
    backbone: str
    config: BackboneConfig
    training: JudgeConfig
    folds: int
    average_adapters: bool
    soft_labels: str
    teacher: str

    @classmethod
    def of(cls, run: RunDir, named: Mapping[str, Any]) -> FinetuneOptions:
        """Resolve the options that a call names.

        Args:
            run: the run.
            named: any of ``view``, ``backbone``, ``quantization``, ``DEFAULTS`` and the fields of
                ``JudgeConfig``.

        Raises:
            UserError: the view's name lacks "logits", an option is not valid or has no effect, or
                the last time's file is to be named again.
        """
        record = run.read_record()
        backbone, quantization = named.get("backbone"), named.get("quantization")
        view = named.get("view") or (
            f"logits-{chosen_backbone(backbone, quantization, record)[1].name}"
        )
        if "logits" not in view or "/" in view:
            raise UserError(
                Code.OPTION_INVALID,
                f'--view {view}: the name must contain "logits", such as logits-a.',
            )
        last = record.get("finetune", {}).get(view, {})
        name, config = chosen_backbone(backbone, quantization, last or record)
        # Another backbone has a training configuration of its own.
        same = last and name == last["backbone"]["asked"]
        entries = (last.get("recipe") if same else None) or finetune_entries(name)
        chosen = {n: named[n] for n in JudgeConfig.options() if n in named}
        training = JudgeConfig.of({**entries, **chosen})
        _check_effects(training, config.name, named)
        check_trainable(config, training)
        others = resolved(named, last, DEFAULTS)
        for option in {"soft_labels", "teacher"} - named.keys():
            others[option] = _file_of_the_run(run, option, others[option])
        return cls(view, name, config, training, **others)

    def record(self) -> dict[str, Any]:
        """The entry in run.json from which the next call starts."""
        return {
            "backbone": backbone_entry(self.backbone, self.config),
            "recipe": asdict(self.training),
            **{name: getattr(self, name) for name in DEFAULTS},
        }

    def line(self) -> str:
        """All of them, for people."""
        values = {**{name: getattr(self, name) for name in DEFAULTS}, **asdict(self.training)}
        return (
            f"view {self.view}: backbone {self.config.name}, {self.config.quantization}, "
            f"{self.config.dtype}; " + " ".join(f"{k}={v}" for k, v in values.items())
        )


@dataclass(frozen=True)
class PackedSplits:
    """The battles of a run, packed in both orders."""

    train: Pairs
    """Training battles, as long as in training."""
    predict: Pairs
    """The same, as long as in prediction."""
    test: Pairs | None

    @classmethod
    def of(
        cls, battles: Mapping[str, pd.DataFrame], tokenizer: Any, training: JudgeConfig
    ) -> PackedSplits:
        """Pack them."""
        length = training.prediction_tokens
        train = predict = pack_pairs(battles["train"], tokenizer, training.max_tokens)
        if length != training.max_tokens:
            predict = pack_pairs(battles["train"], tokenizer, length)
        test = pack_pairs(battles["test"], tokenizer, length) if "test" in battles else None
        return cls(train, predict, test)


def plan_lines(run: RunDir, options: FinetuneOptions) -> list[str]:
    """What a fine-tuning takes; a stand-in counts where the backbone's tokenizer is missing.

    Raises:
        UserError: the run has no training battles, or the backbone's sizes are not known.
    """
    battles = valid_battles(run)
    notes = [*check_devices(options.config), *machine_lines(run.folder, options.config)]
    tokenizer, note = counting_tokenizer(options.config)
    packed = PackedSplits.of(battles, tokenizer, options.training)
    # Files of soft labels and of a teacher are checked.
    _dataset(
        packed.train, training_votes(battles["train"]), battles["train"]["group"].tolist(), options
    )
    lines = estimate_finetuning(
        packed.train,
        packed.predict,
        packed.test,
        held_out(battles["train"]["group"], options.folds),
        options.config,
        options.training,
        average=options.average_adapters,
        folder=run.judges,
    )
    return [*notes, *([note] if note else []), *lines]


def finetune_run(run: RunDir, named: Mapping[str, Any], checkpoint_steps: int) -> None:
    """Train every judge that is missing; write the views of its logits and of the frozen states.

    Others may use the run's model in the hours that this takes.

    Args:
        run: the run, whose battles are there.
        named: the options of this call, see ``FinetuneOptions.of``.
        checkpoint_steps: steps between two checkpoints.

    Raises:
        UserError: an option is not valid, or the training fails; one line says what to change.
    """
    run.require_battles("train")
    run.judges.mkdir(exist_ok=True)
    with run.reading("finetune.py"), run_lock(run.judges, "finetune.py"):
        options = FinetuneOptions.of(run, named)
        print("\n".join([options.line(), *check_devices(options.config)]), flush=True)
        with ExitStack() as stack:
            _finetune(run, options, checkpoint_steps, stack)


def _finetune(
    run: RunDir, options: FinetuneOptions, checkpoint_steps: int, stack: ExitStack
) -> None:
    battles = valid_battles(run)
    texts = {split: texts_hash(table) for split, table in battles.items()}
    groups, votes = battles["train"]["group"], training_votes(battles["train"])
    print(describe(battles["train"]), flush=True)
    start = time.monotonic()
    packed = PackedSplits.of(battles, load_tokenizer(options.config), options.training)
    dataset = _dataset(packed.train, votes, groups.tolist(), options)
    judges = stack.enter_context(
        Judges(options.config, options.training, run.judges, checkpoint_steps)
    )
    judges.prepare(packed.train, packed.predict, *([packed.test] if packed.test else []))
    reading = time.monotonic() - start
    val_masks = held_out(groups, options.folds)
    train_on_devices(judges, dataset, val_masks)
    folders, logits = crossfit(judges, dataset, val_masks, packed.predict)
    trained = sum(map(seconds_of, folders))
    source = settings_hash(
        {
            "tokens": options.training.prediction_tokens,
            "mean": options.average_adapters,
            "judges": [folder.name for folder in folders],
        }
    )
    if options.average_adapters:
        folders = [judges.average(folders)]
    _write_joint(run, options, judges, packed, texts)
    # Options that a check refused or a training could not bear are not remembered.
    entry = {**options.record(), "judges": [folder.name for folder in folders]}
    same = run.read_record().get("finetune", {}).get(options.view) == entry
    run.update_record(
        finetune={options.view: entry},
        machine={options.view: machine(options.config, trains=options.training.epochs > 0)},
    )
    tables = {"train": logits}
    if packed.test is not None:
        tables["test"] = JudgeLogits(options.view, judges, folders).read(packed.test)
    known = {"train": np.stack(val_masks).any(axis=0)}
    for split, table in tables.items():
        missing = np.isnan(table.values[:, 0]) & known.get(split, True)
        warn_non_finite(split, table.ids, missing, options.view)
        path = run.views / options.view / f"{split}.parquet"
        table.write(path, texts[split], source, LOGITS.name)
    # A call that went on with what a killed one had trained counts that, too.
    seconds = max(time.monotonic() - start - reading, trained)
    step = f"finetune_{options.view}"
    record_costs(
        run,
        same,
        seconds={"joint": round(reading, 3), step: round(seconds, 3)},
        peak_mib={step: round(peak_mib())},
    )
    loss, count = log_loss_of(logits, scored_votes(battles["train"]))
    if count:
        print(f"log loss of these logits alone, uncalibrated, on {count:,} battles: {loss:.4f}")


def _dataset(
    pairs: Pairs, votes: np.ndarray, groups: list[str], options: FinetuneOptions
) -> JudgeDataset:
    """The training battles with what is to be learned: shares of the votes, times their weights."""
    targets, teacher = shares_of(votes), None
    if options.soft_labels != NONE:
        targets = read_probabilities(options.soft_labels, pairs.ids, logits=False)
        targets *= weights_of(votes)[:, None]
    if options.teacher != NONE:
        teacher = read_probabilities(options.teacher, pairs.ids, logits=True).astype(np.float32)
        print(
            "the teacher must not have learned from these votes, or they reach the judges that "
            "leave them out: metrics of the view would flatter"
        )
    return JudgeDataset(pairs, targets.astype(np.float32), groups, teacher)


def _write_joint(
    run: RunDir,
    options: FinetuneOptions,
    judges: Judges,
    packed: PackedSplits,
    texts: Mapping[str, str],
) -> None:
    """Write the view ``joint`` where answers are pooled, else remove one of other battles."""
    training, frozen = options.training, judges.frozen
    if training.pool == "answers":
        splits = {"train": packed.predict, "test": packed.test}
        for split, pairs in splits.items():
            if pairs is not None:
                layers = frozen.layers.reads
                texts_of = texts[split]
                write_joint(run.views, split, pairs, texts_of, frozen.name, layers, frozen.suffix)
        run.update_record(
            joint={
                "backbone": backbone_entry(options.backbone, options.config),
                "read_layers": training.read_layers,
                "top_layers": training.top_layers,
                "max_tokens": training.prediction_tokens,
            }
        )
        return
    paths = {split: run.views / JOINT / f"{split}.parquet" for split in texts}
    present = {split: path for split, path in paths.items() if path.exists()}
    if present and any(
        split not in present or read_notes(present[split]).get("battles") != texts[split]
        for split in texts
    ):
        print(f"view {JOINT} is of other battles, and only --pool answers makes it: removed")
        for path in present.values():
            path.unlink()


def _check_effects(training: JudgeConfig, backbone: str, named: Mapping[str, Any]) -> None:
    """Refuse options of training where nothing is trained.

    Raises:
        UserError: there is one.
    """
    idle = [name for name in FOR_TRAINING if name in named]
    if named.get("teacher", NONE) != NONE:
        idle.append("teacher")
    if idle and training.epochs == 0:
        options = ", ".join("--" + name.replace("_", "-") for name in idle)
        raise UserError(
            Code.OPTION_WITHOUT_EFFECT,
            f"With epochs=0 for {backbone} nothing is trained, so {options} "
            f"{'has' if len(idle) == 1 else 'have'} no effect. Add --epochs 1, or leave it out.",
        )


def _file_of_the_run(run: RunDir, option: str, last: str) -> str:
    """A file that the last fine-tuning had; a run made elsewhere may name any file or URL.

    Raises:
        UserError: it does not lie in the run.
    """
    path, folder = Path(last).resolve(), run.folder.resolve()
    if last == NONE:
        return NONE
    if not (path.is_relative_to(folder) and path.is_file()):
        flag = f"--{option.replace('_', '-')}"
        raise UserError(
            Code.OPTION_OUTDATED,
            f"The last fine-tuning had {flag} {last}, which is no file of the run. Give it again, "
            f"or {flag} {NONE}.",
        )
    return str(path)
