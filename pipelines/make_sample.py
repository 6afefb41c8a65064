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
import csv
import hashlib
import io
import itertools
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import torch

from arena import sample
from arena.sample.annotator import annotate
from arena.sample.settings import SETTINGS, Setting
from arena.schema import CLASSES, SEED, digest
from common.errors import Code, UserError
from common.files import atomic, read_json, write_json
from common.progress import Progress
from embeddings.backbone.config import load_config
from embeddings.backbone.load import Backbone, fingerprint, load_backbone, model_folder

BATCH = 32
THREADS = 1
"""Fixed, since the order of bf16 sums depends on it; one, since several idle in barriers on a busy
machine, and a batch of short steps gains little from them."""

ANSWERS = 3
"""Settings that answer each prompt."""

TEST_SHARE = 0.205
from pipelines import cli


@dataclass(frozen=True)
class Prompt:
    """A line of prompts.jsonl."""

    id: str
    kind: str
    language: str
    turns: list[str]


@dataclass(frozen=True)
class Battle:
    """A battle of the sample before its vote."""

    id: int
    split: str
    models: tuple[str, str]
    prompt: list[str]
    responses: tuple[list[str], list[str]]


def number(*parts: str) -> int:
    """A hash of texts as an integer below 2**31: whatever the sample leaves to chance."""
    text = "\0".join([str(SEED), *parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def read_prompts(path: Path) -> list[Prompt]:
    """Read prompts.jsonl.

    Raises:
        UserError: it is not there or a line is not a prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [Prompt(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            Code.INPUT_UNREADABLE, f"{path} cannot be read as prompts: {error}"
        ) from None


def evidence_settings(prompt: Prompt) -> list[str]:
    """The settings that answer a prompt."""
    return sorted(SETTINGS, key=lambda name: number(prompt.id, name))[:ANSWERS]


def generate(backbone: Backbone, texts: list[str], setting: Setting, seed: int) -> list[str]:
    """Continue rendered conversations, as one batch with padding on the left."""
    tokenizer = backbone.tokenizer
    batch = tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
    )
    sampling: dict[str, Any] = {"do_sample": False}
    if setting.temperature > 0:
        sampling = {
            "do_sample": True,
            "temperature": setting.temperature,
            "top_p": setting.top_p,
            "top_k": 0,
        }
    torch.manual_seed(seed)
    with torch.inference_mode():
        ids = backbone.model.generate(
            **batch,
            **sampling,
            repetition_penalty=setting.repetition_penalty,
            max_new_tokens=setting.tokens,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    new = ids[:, batch["input_ids"].shape[1] :]
    return [str(t) for t in tokenizer.batch_decode(new, skip_special_tokens=True)]


def answer_all(
    prompts: list[Prompt], backbone: Backbone, model: str, cache: Path
) -> dict[tuple[str, str], list[str]]:
    """Answers by prompt id and setting, one text a turn; batches already in ``cache`` are read."""
    jobs = {s: [p for p in prompts if s in evidence_settings(p)] for s in SETTINGS}
    answers: dict[tuple[str, str], list[str]] = {}
    total = sum(len(p.turns) for some in jobs.values() for p in some)
    with Progress("answers", total) as progress:
        for name, some in jobs.items():
            for turn in range(max(len(p.turns) for p in some)):
                left = [p for p in some if turn < len(p.turns)]
                for start in range(0, len(left), BATCH):
                    batch = left[start : start + BATCH]
                    _answer(backbone, name, batch, answers, model, cache)
                    progress.update(len(batch))
    return answers


def _answer(
    backbone: Backbone,
    name: str,
    batch: list[Prompt],
    answers: dict[tuple[str, str], list[str]],
    model: str,
    cache: Path,
) -> None:
    """Append the next turn's answer of each prompt in ``batch``."""
    setting = SETTINGS[name]
    openings, texts = [], []
    for prompt in batch:
        said = answers.setdefault((prompt.id, name), [])
        messages = [{"role": "system", "content": setting.system}] if setting.system else []
        for question, reply in itertools.zip_longest(prompt.turns[: len(said) + 1], said):
            messages.append({"role": "user", "content": question})
            if reply is not None:
                messages.append({"role": "assistant", "content": reply})
        choice = number(prompt.id, name, str(len(said))) % len(setting.openings)
        openings.append(setting.openings[choice])
        texts.append(
            backbone.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            + openings[-1]
        )
    key = digest([[model, json.dumps(asdict(setting))], texts])
    path = cache / f"{key}.json"
    if not path.exists():
        write_json(path, generate(backbone, texts, setting, number(key)))
    for prompt, opening, new in zip(batch, openings, read_json(path), strict=True):
        answers[prompt.id, name].append(setting.finish(opening + new))


def battles_of(prompts: list[Prompt], answers: dict[tuple[str, str], list[str]]) -> list[Battle]:
    """Three battles a prompt, in the order of their ids."""
    shuffled = sorted(prompts, key=lambda p: number("split", p.id))
    test = {p.id for p in shuffled[: round(TEST_SHARE * len(prompts))]}
    battles = []
    for prompt in prompts:
        for pair in itertools.combinations(sorted(evidence_settings(prompt)), 2):
            a, b = pair if number("order", prompt.id, *pair) % 2 else pair[::-1]
            battles.append(
                Battle(
                    id=number("id", prompt.id, *pair),
                    split="test" if prompt.id in test else "train",
                    models=(f"smollm2-135m-{a}", f"smollm2-135m-{b}"),
                    prompt=prompt.turns,
                    responses=(answers[prompt.id, a], answers[prompt.id, b]),
                )
            )
    return sorted(battles, key=lambda b: b.id)


def shipped_battles() -> list[Battle]:
    """The battles of the sample that ships with the project."""
    battles = []
    for split, path in (("train", sample.TRAIN), ("test", sample.TEST)):
        for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")):
            a, b = json.loads(row["response_a"]), json.loads(row["response_b"])
            models = (row.get("model_a", ""), row.get("model_b", ""))
            battles.append(Battle(int(row["id"]), split, models, json.loads(row["prompt"]), (a, b)))
    return battles


def draw(battle: Battle, truth: np.ndarray, votes: int) -> list[int]:
    """Independent votes on a battle, each a class; fixed by the battle's id."""
    chances = np.random.default_rng([SEED, battle.id]).random(votes)
    return [int(v) for v in np.searchsorted(np.cumsum(truth)[:2], chances, side="right")]


def write_sample(battles: list[Battle], out: Path, votes: int) -> None:
    """Write train.csv, test.csv and truth.csv into ``out`` and print their figures.

    Args:
        battles: the battles of both splits.
        out: the folder.
        votes: rows for each training battle; from two on, row k of battle id is id * votes + k.
    """
    train, test, truths = [], [], []
    losses, labels = [], []
    for battle in battles:
        truth = annotate(battle.prompt, *battle.responses)
        texts = [json.dumps(t, ensure_ascii=False) for t in (battle.prompt, *battle.responses)]
        drawn = draw(battle, truth, votes if battle.split == "train" else 1)
        for k, label in enumerate(drawn):
            row_id = battle.id * len(drawn) + k
            vote = [int(label == c) for c in range(len(CLASSES))]
            truths.append([row_id, battle.split, *(f"{p:.6f}" for p in truth), *vote])
            losses.append(-np.log(truth[label]))
            labels.append(label)
            if battle.split == "train":
                train.append([row_id, *battle.models, *texts, *vote])
            else:
                test.append([row_id, *texts])
    texts_of = ["prompt", "response_a", "response_b"]
    names = [f"p_{c}" for c in CLASSES]
    _write_csv(out / "train.csv", ["id", "model_a", "model_b", *texts_of, *CLASSES], train)
    _write_csv(out / "test.csv", ["id", *texts_of], test)
    _write_csv(out / "truth.csv", ["id", "split", *names, *CLASSES], truths)
    shares = np.bincount(labels, minlength=3) / len(labels)
    print(
        f"{len(train)} train and {len(test)} test rows; A / B / tie "
        + " / ".join(f"{s:.3f}" for s in shares)
        + f"; log loss of the true probabilities (Bayes) {np.mean(losses):.4f}"
    )


def _write_csv(path: Path, header: list[str], rows: Iterable[list[Any]]) -> None:
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main(arguments: argparse.Namespace) -> None:
    """Make the whole sample, or redraw its votes."""
    if arguments.votes:
        if Path(arguments.out).resolve() == sample.TRAIN.parent:
            raise UserError(
                Code.OUTPUT_INVALID,
                "--votes writes beside the shipped sample: name another folder, --out DIR",
            )
        battles = shipped_battles()
    else:
        prompts = read_prompts(sample.TRAIN.parent / "prompts.jsonl")
        torch.set_num_threads(THREADS)
        config = load_config("smollm2-135m")
        model = fingerprint(model_folder(config))
        backbone = load_backbone(config, device="cpu")
        answers = answer_all(prompts, backbone, model, Path(arguments.cache))
        battles = battles_of(prompts, answers)
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
