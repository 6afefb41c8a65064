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
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import runpy

    runpy.run_path(str(Path(__file__).with_name("_script.py")))

from arena.schema import CLASSES
from common.run_dir import RunDir
from embeddings.backbone.quantization import QUANTIZATIONS
from embeddings.judge.config import JudgeConfig
from pipelines import cli
from tiebreak.finetuning import DEFAULTS, FinetuneOptions, finetune_run, plan_lines
from tiebreak.next_step import next_step
from tiebreak.run_record import DEFAULT_BACKBONE


def main(arguments: argparse.Namespace) -> None:
    """Plan, or train every judge and write the views."""
    run = RunDir(Path(arguments.run))
    named = cli.named(arguments)
    if arguments.dry_run:
        run.require_battles("train")
        options = FinetuneOptions.of(run, named)
        print(options.line(), flush=True)
        print("\n".join(plan_lines(run, options)))
        return
    finetune_run(run, named, arguments.checkpoint_steps)
    cli.print_next(f"views in {run.views}", next_step(run))


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

    # What is not named stays out of the namespace: the run's last fine-tuning speaks then.
    def add(name: str, what: str, default: object = None, **how: Any) -> None:
        default = DEFAULTS[name] if default is None else default
        p.add_argument(
            f"--{name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=f"{what} (the run's last, else {default})".replace("%", "%%"),
            **how,
        )

    add(
        "folds",
        "judges, one a fold; 1: train on 80%, and only the other 20% get logits",
        metavar="K",
        type=cli.positive,
    )
    flag = {"action": argparse.BooleanOptionalAction}
    add("average_adapters", "test battles are read by the mean of the judges' weights", **flag)
    add(
        "soft_labels",
        f"file to learn from instead of votes: columns id and {', '.join(CLASSES)}, probabilities",
        metavar="FILE",
    )
    add(
        "teacher",
        "file of the same columns, probabilities or logits, to learn from beside the votes; or the "
        "train.parquet of a logits or verdict view",
        metavar="FILE",
    )
    for name, option in JudgeConfig.options().items():
        kind = type(option.default)
        how: dict[str, Any] = flag if kind is bool else {"type": kind, "metavar": "X"}
        add(name, option.description or "", f"the YAML's, else {option.default}", **how)
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
