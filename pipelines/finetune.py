"""Stage one, its strongest evidence: the language model fine-tuned to say A, B or tie.

    python pipelines/finetune.py                  the sample; trains nothing: a probe of the model
    python pipelines/finetune.py --run runs/lmsys --backbone gemma2-9b --quantization nf4 --dry-run
    python pipelines/finetune.py --run runs/lmsys --top-layers 8 --epochs 2       thrift on a CPU
    python pipelines/finetune.py --run runs/lmsys                       after extract.py --test more

Works on the battles of a run that extract.py made. Writes the view "joint", what the frozen model
sees of both answers side by side, and one view whose name holds "logits":
each training battle gets the logits of a judge that never saw its prompt group, each test battle
the mean over the judges. The YAML of smollm2-135m says epochs: 0, a probe of the frozen model;
--epochs 1 trains it. What is not given is taken from the run's last fine-tuning of that view that
ended (its recipe, where the backbone is the same), else from the backbone's YAML. Killed at any
moment, the same command goes on from the last checkpoint; finished judges are never trained again.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd

from arena.battle_table import read_battles_table, texts_hash
from arena.folds import held_out
from arena.predictions_file import from_log_odds, one_hot, read_probabilities
from arena.reader import valid_rows
from arena.schema import CLASSES
from common.errors import Code, UserError
from common.lock import run_lock
from common.parallel import peak_mib
from common.parquet import read_notes
from common.run_dir import SPLITS, RunDir
from embeddings.backbone.load import load_tokenizer
from embeddings.backbone.quantization import QUANTIZATIONS
from embeddings.cache.shards import settings_hash
from embeddings.frozen.extract import warn_non_finite
from embeddings.frozen.pair_states import VIEW as JOINT
from embeddings.frozen.pair_states import write_joint
from embeddings.frozen.plan import counting_tokenizer
from embeddings.judge.config import JudgeConfig
from embeddings.judge.costs import estimate_finetuning
from embeddings.judge.cross_fit import Judges, crossfit
from embeddings.judge.dataset import JudgeDataset
from embeddings.judge.trainer import seconds_of
from embeddings.judge.view import JudgeLogits
from embeddings.prompts.pairs import Pairs, pack_pairs
from embeddings.view_kinds import LOGITS
from meta.metrics.scores import log_loss
from pipelines import cli
from pipelines.finetune_options import NONE, FinetuneOptions, resolve
from tiebreak.run_record import DEFAULT_BACKBONE, record_costs


def read_sound(run: RunDir) -> dict[str, pd.DataFrame]:
    """The battles of the run's splits that are not set aside.

    Raises:
        UserError: there are no training battles.
    """
    run.require_battles("train")
    tables = {
        s: valid_rows(read_battles_table(run.battles(s))) for s in SPLITS if run.battles(s).exists()
    }
    if tables["train"].empty:
        raise UserError(Code.NO_TRAINING_BATTLES, f"{run.folder} has no valid training battle.")
    return tables


def plan(tables: dict[str, pd.DataFrame], asked: FinetuneOptions) -> list[str]:
    """What the fine-tuning will cost, with a stand-in where the backbone's tokenizer is missing."""
    tokenizer, note = counting_tokenizer(asked.config)
    train, predict, test = pack(tables, tokenizer, asked.recipe)
    lines = estimate_finetuning(
        train,
        predict,
        test,
        held_out(tables["train"]["group"], asked.folds),
        asked.config,
        asked.recipe,
        average=asked.average_adapters,
    )
    return [*([note] if note else []), *lines]


def pack(
    tables: dict[str, pd.DataFrame], tokenizer: Any, recipe: JudgeConfig
) -> tuple[Pairs, Pairs, Pairs | None]:
    """Training battles for training and for prediction, test battles for prediction."""
    train = pack_pairs(tables["train"], tokenizer, recipe.max_tokens)
    length = recipe.prediction_tokens
    same = length == recipe.max_tokens
    predict = train if same else pack_pairs(tables["train"], tokenizer, length)
    test = pack_pairs(tables["test"], tokenizer, length) if "test" in tables else None
    return train, predict, test


def examples_of(
    pairs: Pairs, labels: np.ndarray, groups: list[str], asked: FinetuneOptions
) -> JudgeDataset:
    """The training battles with what is to be learned."""
    targets, teacher = one_hot(labels), None
    if asked.soft_labels != NONE:
        targets = read_probabilities(asked.soft_labels, pairs.ids, logits=False).astype(np.float32)
    if asked.teacher != NONE:
        teacher = read_probabilities(asked.teacher, pairs.ids, logits=True).astype(np.float32)
        print(
            "the teacher must not have learned from these votes, or they reach the judges that "
            "leave them out: figures of the view would flatter"
        )
    return JudgeDataset(pairs, targets, groups, teacher)


def announced(run: RunDir, arguments: argparse.Namespace) -> FinetuneOptions:
    """What is asked, shown before it is done."""
    asked = resolve(arguments, run.read_record())
    shown = {**asked.record(), **asdict(asked.recipe)}
    del shown["recipe"], shown["backbone"]
    print(
        f"view {asked.view}: backbone {asked.config.name}, {asked.config.quantization}, "
        f"{asked.config.dtype}; " + " ".join(f"{k}={v}" for k, v in shown.items()),
        flush=True,
    )
    return asked


def main(arguments: argparse.Namespace) -> None:
    """Plan, or train every judge and write the view."""
    run = RunDir(Path(arguments.run))
    run.require_battles("train")
    if arguments.dry_run:
        asked = announced(run, arguments)
        print("\n".join(plan(read_sound(run), asked)))
        return
    run.judges.mkdir(exist_ok=True)
    # Others may use the run's model in the hours that this takes.
    with run.reading("finetune.py"), run_lock(run.judges, "finetune.py"):
        finetune(run, announced(run, arguments), arguments.checkpoint_steps)


def finetune(run: RunDir, asked: FinetuneOptions, checkpoint_steps: int) -> None:
    """Train every judge that is not there yet, and write the view."""
    tables = read_sound(run)
    start = time.monotonic()
    train, predict, test = pack(tables, load_tokenizer(asked.config), asked.recipe)
    labels = tables["train"]["label"].to_numpy(dtype=np.int64)
    examples = examples_of(train, labels, tables["train"]["group"].tolist(), asked)
    judges = Judges(asked.config, asked.recipe, run.judges, checkpoint_steps)
    left_out = held_out(tables["train"]["group"], asked.folds)
    judges.prepare(train, predict, *([test] if test else []))
    texts = {split: texts_hash(table) for split, table in tables.items()}
    reading = time.monotonic() - start
    folders, view = crossfit(judges, examples, left_out, predict)
    if asked.recipe.pool == "answers":
        for split, table in (("train", predict), ("test", test)):
            if table is not None:
                frozen = judges.frozen
                layers = frozen.layers.reads
                write_joint(run.views, split, table, texts[split], frozen.name, layers)
        run.update_record(joint=joint_record(asked))
    else:
        remove_old_joint(run, texts)
    said = {"tokens": asked.recipe.prediction_tokens, "mean": asked.average_adapters}
    source = settings_hash({**said, "judges": [folder.name for folder in folders]})
    settings = asked.record()
    before = run.read_record().get("finetune", {}).get(asked.view, {})
    same = {**before, **settings} == before
    trained = sum(map(seconds_of, folders))
    if asked.average_adapters:
        folders = [judges.average(folders)]
    # What a check refused or a training could not bear is no setting to go on with.
    names = [folder.name for folder in folders]
    run.update_record(finetune={asked.view: {**settings, "judges": names}})
    if test is not None:
        found = JudgeLogits(asked.view, judges, folders).read(test)
        warn_non_finite("test", found.ids, np.isnan(found.values[:, 0]), asked.view)
        path = run.views / asked.view / "test.parquet"
        found.write(path, texts["test"], source, LOGITS.name)
    known = np.stack(left_out).any(axis=0)
    warn_non_finite("train", view.ids, known & np.isnan(view.values[:, 0]), asked.view)
    view.write(run.views / asked.view / "train.parquet", texts["train"], source, LOGITS.name)
    # A call that went on with what a killed one had trained counts that, too.
    seconds = max(time.monotonic() - start - reading, trained)
    record_costs(
        run,
        same,
        seconds={"joint": round(reading, 3), f"finetune_{asked.view}": round(seconds, 3)},
        peak_mib={f"finetune_{asked.view}": round(peak_mib())},
    )
    rows = np.flatnonzero(np.isfinite(view.values).all(axis=1))
    if len(rows):
        side, tie = view.values[rows, 0], view.values[rows, 1]
        loss = log_loss(from_log_odds(side, tie), labels[rows])
        print(f"log loss of these logits alone, uncalibrated, on {len(rows):,} battles: {loss:.4f}")
    print(
        f"view in {run.views / asked.view}; next: python pipelines/train_meta.py --run {run.folder}"
    )


def joint_record(asked: FinetuneOptions) -> dict[str, Any]:
    """What says how the view ``joint`` was read (``PairStates.of_run``)."""
    return {
        "backbone": asked.record()["backbone"],
        "read_layers": asked.recipe.read_layers,
        "top_layers": asked.recipe.top_layers,
        "max_tokens": asked.recipe.prediction_tokens,
    }


def remove_old_joint(run: RunDir, texts: dict[str, str]) -> None:
    """Remove the view ``joint`` where it is not of the run's battles and is not made again.

    Args:
        run: the run.
        texts: ``texts_hash`` of the battles of each split.
    """
    paths = {split: run.views / JOINT / f"{split}.parquet" for split in texts}
    there = {split: path for split, path in paths.items() if path.exists()}
    if there and any(
        split not in there or read_notes(there[split]).get("battles") != texts[split]
        for split in texts
    ):
        print(f"view {JOINT} is of other battles, and only --pool answers makes it: removed")
        for path in there.values():
            path.unlink()


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument(
        "--backbone", metavar="B", help=f"as for extract.py (the run's own, or {DEFAULT_BACKBONE})"
    )
    p.add_argument("--quantization", choices=tuple(QUANTIZATIONS), help="overrides the YAML")
    p.add_argument("--view", metavar="NAME", help="name of the view (logits-<backbone>)")
    p.add_argument("--dry-run", action="store_true", help="print the plan and its cost, do nothing")
    p.add_argument(
        "--checkpoint-steps", metavar="N", type=cli.positive, default=50, help="steps between them"
    )

    # What is not given stays out of the namespace: the run's last fine-tuning speaks then.
    def add(name: str, default: object, what: str, **how: Any) -> None:
        p.add_argument(
            f"--{name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=f"{what} (the run's last, else {default})".replace("%", "%%"),
            **how,
        )

    add(
        *("folds", 5, "judges, one a fold; 1: train on 80%, and only the other 20% get logits"),
        metavar="K",
        type=cli.positive,
    )
    flag = {"action": argparse.BooleanOptionalAction}
    add(
        "average_adapters",
        False,
        "test battles are read by the mean of the judges' weights",
        **flag,
    )
    add(
        "soft_labels",
        NONE,
        f"file to learn from instead of votes: columns id and {', '.join(CLASSES)}, probabilities",
        metavar="FILE",
    )
    add(
        "teacher",
        NONE,
        "file of the same columns, probabilities or logits, to learn from beside the votes; or the "
        "train.parquet of a logits or verdict view",
        metavar="FILE",
    )
    for name, option in JudgeConfig.options().items():
        kind = type(option.default)
        how: dict[str, Any] = flag if kind is bool else {"type": kind, "metavar": "X"}
        add(name, f"the YAML's, else {option.default}", option.description or "", **how)
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
