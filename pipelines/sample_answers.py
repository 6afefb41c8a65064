"""Answers of the language model to the prompts of the sample, kept by content."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from arena.sample.battles import Prompt, number, settings_of
from arena.sample.settings import SETTINGS, Setting
from arena.schema import digest
from common.files import read_json, write_json
from common.progress import Progress
from embeddings.backbone.load import Backbone

BATCH = 32


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
    prompts_of = {s: [p for p in prompts if s in settings_of(p)] for s in SETTINGS}
    answers: dict[tuple[str, str], list[str]] = {}
    total = sum(len(p.turns) for chosen in prompts_of.values() for p in chosen)
    with Progress("answers", total) as progress:
        for name, chosen in prompts_of.items():
            for turn in range(max(len(p.turns) for p in chosen)):
                unanswered = [p for p in chosen if turn < len(p.turns)]
                for start in range(0, len(unanswered), BATCH):
                    batch = unanswered[start : start + BATCH]
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
        replies = answers.setdefault((prompt.id, name), [])
        messages = [{"role": "system", "content": setting.system}] if setting.system else []
        for question, reply in itertools.zip_longest(prompt.turns[: len(replies) + 1], replies):
            messages.append({"role": "user", "content": question})
            if reply is not None:
                messages.append({"role": "assistant", "content": reply})
        choice = number(prompt.id, name, str(len(replies))) % len(setting.openings)
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
