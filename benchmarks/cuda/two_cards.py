"""Point 13: one model over two cards."""

from __future__ import annotations

from functools import partial

from benchmarks.cuda.bench import (
    BITSANDBYTES,
    CHECKPOINTING,
    PEFT,
    TWO_CARDS,
    Bench,
    apart,
    read,
)
from benchmarks.cuda.loading import check_place
from benchmarks.cuda.report import Part, Parts
from benchmarks.cuda.training import recipe, train
from embeddings.backbone.load import load_tokenizer
from embeddings.frozen.scoring import Scorer
from embeddings.prompts.pairs import pack_with
from embeddings.zero_shot.judge import packing, query_backbone
from tests.helpers.planted import planted

NEAR, NATS = 3e-2, 0.1


def two_cards(bench: Bench, parts: Parts) -> None:
    """Point 13."""
    bench.drop()
    for letter in ("G", "L"):
        parts.run(f"{letter} none, score", partial(_score, bench, letter), TWO_CARDS)
        parts.run(f"{letter} none, verdict", partial(_verdict, bench, letter), TWO_CARDS)
    needs = (TWO_CARDS, BITSANDBYTES, PEFT, CHECKPOINTING)
    parts.run("G nf4, two steps", partial(_train, bench), *needs)


def _score(bench: Bench, letter: str, part: Part) -> None:
    config = bench.config(letter)
    packed, tokens = bench.packed(config), bench.sizes.batch_tokens
    expected, _ = read(bench.scorer(config), packed.answers, tokens)
    backbone = bench.load(bench.config(letter, device_map="auto"))
    devices = {str(parameter.device) for parameter in backbone.model.parameters()}
    part.holds(f"its weights are on two cards: {sorted(devices)}", len(devices) > 1)
    check_place(part, backbone, {"cuda"})
    scorer = Scorer(backbone, packed.end_token, packed.shared_prefix)
    found, _ = read(scorer, packed.answers, tokens)
    part.at_most("largest distance from one card", float(apart(found, expected).max()), NEAR)


def _verdict(bench: Bench, letter: str, part: Part) -> None:
    config = bench.config(letter)
    packer, budget = packing(load_tokenizer(config), 512)
    pairs = pack_with(packer, planted(16), budget)
    (expected,) = query_backbone([pairs], config)
    (found,) = query_backbone([pairs], bench.config(letter, device_map="auto"))
    part.at_most("nats from one card", float(abs(found - expected).max()), NATS)


def _train(bench: Bench, part: Part) -> None:
    folder = bench.folder / "judges" / "two cards"
    trainer = train(bench, recipe(bench, epochs=2), folder, device_map="auto")
    part.figures["losses"] = " ".join(f"{loss:.3f}" for loss in trainer.losses)
    part.holds("no step was skipped", trainer.skipped_steps == 0)
