"""Make the sample again from its prompts: answers of the embedded model, simulated votes.

    python pipelines/make_sample.py                              all of arena/sample: 10 minutes
    python pipelines/make_sample.py --votes 4 --out runs/votes4  four votes a battle, no model

Each prompt gets the answers of three settings of SmolLM2-135M-Instruct, hence three battles; the
annotator of arena/sample/annotator.py votes on each. Answers are kept in --cache by content, so a
run that died goes on. With --votes the answers are those of the shipped sample, and each training
battle has N independent votes as N rows, the first of them the shipped one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    import runpy

    runpy.run_path(str(Path(__file__).with_name("_script.py")))

import torch

from arena import sample
from arena.sample.battles import Battle, battles_of, read_prompts, shipped_battles, write_sample
from common.errors import Code, UserError
from embeddings.backbone.config import load_config
from embeddings.backbone.load import fingerprint, load_backbone, model_folder
from pipelines import cli
from pipelines.sample_answers import answer_all

THREADS = 1
"""Fixed, since the order of bf16 sums depends on it; one, since several idle in barriers on a busy
machine, and a batch of short steps gains little from them."""


def make_battles(cache: Path) -> list[Battle]:
    """Let the embedded model answer the prompts; answers already in ``cache`` are read."""
    prompts = read_prompts(sample.TRAIN.parent / "prompts.jsonl")
    torch.set_num_threads(THREADS)
    config = load_config("smollm2-135m")
    model = fingerprint(model_folder(config))
    backbone = load_backbone(config, device="cpu")
    return battles_of(prompts, answer_all(prompts, backbone, model, cache))


def main(arguments: argparse.Namespace) -> None:
    """Make the whole sample, or redraw its votes."""
    if arguments.votes:
        if Path(arguments.out).resolve() == sample.TRAIN.parent:
            raise UserError(
                Code.OUTPUT_INVALID,
                "--votes would overwrite the shipped sample. Name another folder: --out DIR",
            )
        battles = shipped_battles()
    else:
        battles = make_battles(Path(arguments.cache))
    write_sample(battles, Path(arguments.out), arguments.votes or 1)


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument(
        "--votes",
        metavar="N",
        type=cli.positive,
        help="only redraw: N votes for each training battle of the shipped sample",
    )
    p.add_argument("--out", metavar="DIR", default=str(sample.TRAIN.parent), help="output folder")
    p.add_argument("--cache", metavar="DIR", default="runs/make_sample", help="answers made so far")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
