"""How a backbone is fine-tuned: one frozen record, the ``finetune`` part of a backbone's YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from common.errors import Code, UserError
from common.validation import problems

FOR_TRAINING = (
    *("batch_tokens", "gradient_checkpointing", "top_layers", "rank", "alpha", "dropout", "head"),
    *("batch", "lr", "head_lr", "warmup", "weight_decay", "ce", "kl", "cosine"),
)
"""Fields that change nothing where ``epochs`` is 0: a probe of the frozen states is all."""


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class JudgeConfig:
    """What changes the weights that come out of a fine-tuning, or how fast they come.

    Every field is an option of ``pipelines/finetune.py``, which takes its help from here. A number
    of type ``int | float`` stays as it was written: the address of a judge is a hash of it.
    """

    max_tokens: int = Field(
        1024, ge=1, description="most tokens of prompt and both answers in training"
    )
    predict_tokens: int = Field(
        0, ge=0, description="the same where the model predicts; 0 as in training"
    )
    batch_tokens: int = Field(
        8192, ge=1, description="most tokens, padding included, in a micro-batch on a GPU"
    )
    gradient_checkpointing: bool = Field(False, description="a third more time for far less memory")
    top_layers: int = Field(
        0,
        ge=0,
        description="train the topmost so many layers and read the output of the others from disk; "
        "0: all",
    )
    read_layers: str = Field(
        "1",
        description="depths whose states the head reads, as 0.75,0.9; layers above the last are "
        "dropped",
    )
    rank: int = Field(16, ge=1, description="rank of LoRA, on every linear projection")
    alpha: int = Field(32, ge=1, description="LoRA's scale is alpha / rank")
    dropout: int | float = Field(
        0.0, ge=0, lt=1, description="of the inputs of LoRA and mlp head; a CPU is half as fast"
    )
    pool: Literal["last", "answers"] = Field(
        "answers", description="of these states: last (token), or answers: and means of both"
    )
    head: Literal["linear", "mlp"] = Field(
        "linear", description="linear, or mlp: d to d/2, GELU, to 3 is added to it"
    )
    epochs: int = Field(
        1, ge=0, description="times that each battle is read, in both orders; 0: a frozen model"
    )
    batch: int = Field(
        16, ge=1, description="battles, each with its swapped twin, in one optimizer step"
    )
    lr: int | float = Field(2e-4, ge=0, description="peak learning rate of LoRA")
    head_lr: int | float = Field(2e-4, ge=0, description="peak learning rate of the head")
    warmup: int | float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of the steps in which the rates rise; then a half cosine",
    )
    weight_decay: int | float = Field(0.01, ge=0, description="AdamW's, decoupled")
    ce: int | float = Field(
        1.0, ge=0, description="with a teacher: weight of the cross-entropy with the votes"
    )
    kl: int | float = Field(
        1.0, ge=0, description="with a teacher: weight of the KL divergence from it"
    )
    cosine: int | float = Field(
        1.0, ge=0, description="with a teacher: weight of 1 - cosine to its probabilities"
    )

    @field_validator("read_layers")
    @classmethod
    def _fractions(cls, value: str) -> str:
        if not all(0 < float(fraction) <= 1 for fraction in value.split(",")):
            raise ValueError("give fractions of depth, such as 0.75,1")
        return value

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if self.ce + self.kl + self.cosine == 0:
            raise ValueError("ce, kl and cosine are all 0")
        return self

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
    def reads_all_battles(self) -> bool:
        """Whether the frozen states of every battle are read, and not of those trained on alone.

        They are the view ``joint``, and all that a judge of no epoch reads.
        """
        return self.pool == "answers" or self.epochs == 0

    @classmethod
    def options(cls) -> dict[str, FieldInfo]:
        """Default and description of every field, by name."""
        fields: dict[str, FieldInfo] = vars(cls)["__pydantic_fields__"]
        return fields

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> JudgeConfig:
        """Make one of YAML or command-line entries; what they lack keeps its default.

        Raises:
            UserError: an entry is unknown or not valid.
        """
        try:
            return cls(**{str(name): value for name, value in entries.items()})
        except ValidationError as error:
            raise UserError(Code.RECIPE_INVALID, f"finetune: {problems(error)}") from error
