"""How a backbone is fine-tuned: one frozen record, the ``finetune`` part of a backbone's YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from common.errors import Code, UserError

HEADS = ("linear", "mlp")
POOLS = ("last", "answers")

FOR_TRAINING = (
    *("batch_tokens", "gradient_checkpointing", "top_layers", "rank", "alpha", "dropout", "head"),
    *("batch", "lr", "head_lr", "warmup", "weight_decay", "ce", "kl", "cosine"),
)
"""Fields that change nothing where ``epochs`` is 0: a probe of the frozen states is all."""


def _option(default: Any, what: str) -> Any:
    """A field with the line that ``finetune.py --help`` shows for it."""
    return field(default=default, metadata={"help": what})


@dataclass(frozen=True)
class JudgeConfig:
    """What changes the weights that come out of a fine-tuning, or how fast they come.

    Every field is an option of ``pipelines/finetune.py``, which takes its help from here.
    """

    max_tokens: int = _option(1024, "most tokens of prompt and both answers in training")
    predict_tokens: int = _option(0, "the same where the model predicts; 0 as in training")
    batch_tokens: int = _option(8192, "most tokens, padding included, in a micro-batch on a GPU")
    gradient_checkpointing: bool = _option(False, "a third more time for far less memory")
    top_layers: int = _option(
        0, "train the topmost so many layers and read the output of the others from disk; 0: all"
    )
    read_layers: str = _option(
        "1", "depths whose states the head reads, as 0.75,0.9; layers above the last are dropped"
    )
    rank: int = _option(16, "rank of LoRA, on every linear projection")
    alpha: int = _option(32, "LoRA's scale is alpha / rank")
    dropout: float = _option(0.0, "of the inputs of LoRA and mlp head; a CPU is half as fast")
    pool: str = _option("answers", "of these states: last (token), or answers: and means of both")
    head: str = _option("linear", "linear, or mlp: d to d/2, GELU, to 3 is added to it")
    epochs: int = _option(1, "times that each battle is read, in both orders; 0: a frozen model")
    batch: int = _option(16, "battles, each with its swapped twin, in one optimizer step")
    lr: float = _option(2e-4, "peak learning rate of LoRA")
    head_lr: float = _option(2e-4, "peak learning rate of the head")
    warmup: float = _option(0.1, "share of the steps in which the rates rise; then a half cosine")
    weight_decay: float = _option(0.01, "AdamW's, decoupled")
    ce: float = _option(1.0, "with a teacher: weight of the cross-entropy with the votes")
    kl: float = _option(1.0, "with a teacher: weight of the KL divergence from it")
    cosine: float = _option(1.0, "with a teacher: weight of 1 - cosine to its probabilities")

    def __post_init__(self) -> None:
        """Check every value; raise ``UserError``."""

        def check(sound: bool, what: str) -> None:
            if not sound:
                raise UserError(Code.RECIPE_INVALID, f"finetune: {what}")

        for f in fields(self):
            value = getattr(self, f.name)
            kinds = {"int": (int,), "float": (float, int), "bool": (bool,), "str": (str,)}
            check(
                isinstance(value, kinds[str(f.type)])
                and (f.type == "bool" or not isinstance(value, bool)),
                f"{f.name} is {value!r}, which is not {f.type}",
            )
            check(
                f.type == "str" or abs(value) < math.inf,
                f"{f.name} is {value}, which is not a finite number",
            )
        for name in ("max_tokens", "batch_tokens", "rank", "alpha", "batch"):
            check(getattr(self, name) >= 1, f"{name} is less than 1")
        for name in (
            *("predict_tokens", "top_layers", "epochs", "lr", "head_lr"),
            *("weight_decay", "ce", "kl", "cosine"),
        ):
            check(getattr(self, name) >= 0, f"{name} is negative")
        check(0 <= self.dropout < 1, f"dropout {self.dropout} is not in [0, 1)")
        check(0 <= self.warmup <= 1, f"warmup {self.warmup} is not in [0, 1]")
        try:
            sound = all(0 < depth <= 1 for depth in self.depths)
        except ValueError:
            sound = False
        check(sound, f"read_layers is {self.read_layers!r}, not fractions of depth such as 0.75,1")
        check(self.pool in POOLS, f"pool is {self.pool!r}, not one of {', '.join(POOLS)}")
        check(self.head in HEADS, f"head is {self.head!r}, not one of {', '.join(HEADS)}")
        check(self.ce + self.kl + self.cosine > 0, "ce, kl and cosine are all 0")

    @property
    def depths(self) -> tuple[float, ...]:
        """``read_layers`` as fractions of the backbone's depth."""
        return tuple(float(fraction) for fraction in self.read_layers.split(","))

    @property
    def prediction_tokens(self) -> int:
        """Most tokens of a sequence where the model predicts."""
        return self.predict_tokens or self.max_tokens

    @property
    def longest(self) -> int:
        """Most tokens of any sequence, in training or prediction."""
        return max(self.max_tokens, self.predict_tokens)

    @property
    def looks_at_all(self) -> bool:
        """Whether the frozen states of every battle are read, and not of those trained on alone.

        They are the view ``joint``, and all that a judge of no epoch reads.
        """
        return self.pool == "answers" or self.epochs == 0

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> JudgeConfig:
        """Make a recipe of YAML or command-line entries; what they lack keeps its default.

        Raises:
            UserError: an entry is unknown or not sound.
        """
        known = [f.name for f in fields(cls)]
        unknown = [str(name) for name in entries if name not in known]
        if unknown:
            raise UserError(
                Code.RECIPE_INVALID,
                f"finetune: unknown {', '.join(unknown)}; known are {', '.join(known)}",
            )
        return cls(**entries)
