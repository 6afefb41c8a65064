"""The battles of the sample, from prompts and answers to its three tables."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arena import sample
from arena.sample.annotator import annotate
from arena.sample.settings import SETTINGS
from arena.schema import CLASSES, SEED
from common.errors import Code, UserError
from common.files import atomic

ANSWERS = 3
"""Settings that answer each prompt."""

TEST_SHARE = 0.205


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


def settings_of(prompt: Prompt) -> list[str]:
    """The settings that answer a prompt."""
    return sorted(SETTINGS, key=lambda name: number(prompt.id, name))[:ANSWERS]


def battles_of(prompts: list[Prompt], answers: dict[tuple[str, str], list[str]]) -> list[Battle]:
    """Three battles a prompt, in the order of their ids."""
    shuffled = sorted(prompts, key=lambda p: number("split", p.id))
    test = {p.id for p in shuffled[: round(TEST_SHARE * len(prompts))]}
    battles = []
    for prompt in prompts:
        for pair in itertools.combinations(sorted(settings_of(prompt)), 2):
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
