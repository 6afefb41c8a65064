"""A loaded backbone that reads answers: one for this process, or one in each of Ray's workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from embeddings.backbone.config import UNCONDITIONAL_TOKENS, BackboneConfig
from embeddings.backbone.layers import layer_numbers
from embeddings.backbone.load import load_backbone, model_config, model_folder, model_settings
from embeddings.backbone.runtime import TORCH
from embeddings.frozen.one_byte import to_bytes
from embeddings.frozen.pooling import slot_names
from embeddings.frozen.scoring import SCORING_VERSION, Scorer
from embeddings.inference import BatchBudget, one_core
from embeddings.prompts.answers import PackedAnswer
from embeddings.prompts.chat_template import TEMPLATE_VERSION


def evidence_settings(config: BackboneConfig, engine: str = TORCH) -> dict[str, Any]:
    """All that changes the numbers that a backbone gives: what a store's name is the hash of.

    Args:
        config: the backbone.
        engine: what runs it.

    Raises:
        UserError: the backbone cannot be had.
    """
    layers = model_config(model_folder(config)).num_hidden_layers
    settings: dict[str, Any] = {
        **model_settings(config),
        "slots": slot_names(layer_numbers(config.layers, layers)),
        "scoring": SCORING_VERSION,
        "template": TEMPLATE_VERSION,
    }
    if engine != TORCH:
        settings["engine"] = engine
    if config.state_bits == 8:
        settings["state_bits"] = config.state_bits
    if config.unconditional_tokens != UNCONDITIONAL_TOKENS:
        settings["unconditional_tokens"] = config.unconditional_tokens
    return settings


class AnswerNumbers(NamedTuple):
    """Of one answer, as ``Scorer.score`` gives them; or of many, with their number before that."""

    states: np.ndarray
    """float16 (slots, d); where they are stored, uint8 (slots, d + 1) with ``state_bits`` 8."""
    likelihood: np.ndarray
    """float32 (quantities,)."""


def answer_arrays(numbers: Sequence[AnswerNumbers]) -> dict[str, torch.Tensor]:
    """The arrays of a shard: ``states`` (n, slots, d), ``likelihood`` (n, quantities)."""
    columns = zip(AnswerNumbers._fields, zip(*numbers, strict=True), strict=True)
    return {name: torch.from_numpy(np.stack(rows)) for name, rows in columns}


class AnswerReader:
    """A backbone that reads batches of answers.

    Attributes:
        budget: tokens of a batch, lowered for good once memory did not suffice.
    """

    def __init__(
        self, config: BackboneConfig, end_token: int, shared_prefix: np.ndarray, engine: str = TORCH
    ) -> None:
        """Load the backbone; the arguments are ``Scorer``'s.

        Raises:
            UserError: the backbone cannot be had, or the engine cannot run it.
        """
        backbone = load_backbone(config)
        self._one_byte = config.state_bits == 8
        self.budget = BatchBudget(backbone.batch_tokens, "max_tokens in the backbone's YAML")
        with one_core():
            self._scorer = Scorer(backbone, end_token, shared_prefix, engine)

    def read(self, answers: Sequence[PackedAnswer]) -> list[AnswerNumbers]:
        """The numbers of a batch as they are stored, one entry an answer."""
        states, likelihoods = self._scorer.score(answers)
        stored = to_bytes(states) if self._one_byte else states
        return [AnswerNumbers(*numbers) for numbers in zip(stored, likelihoods, strict=True)]
