"""What the language model says about an answer: pooled hidden states, and how likely it finds it.

Hidden states are pooled in float32 (``embeddings.frozen.pooling``). The state of layer k is the
output of the k-th decoder layer; that of the last layer is taken after the model's final norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from embeddings.backbone.layers import layer_numbers
from embeddings.backbone.load import Backbone
from embeddings.backbone.runtime import TORCH, make_engine
from embeddings.frozen.log_likelihood import (
    QUANTITIES,
    conditional_quantities,
    content_targets,
    end_target,
    token_log_probs,
    unconditional_targets,
)
from embeddings.frozen.pooling import pooled_states
from embeddings.prompts.answers import PackedAnswer

SCORING_VERSION = 4
"""In every store's address; another one where the same settings give other numbers."""


class Scorer:
    """Reads answers with one backbone."""

    def __init__(
        self, backbone: Backbone, end_token: int, shared_prefix: np.ndarray, engine: str = TORCH
    ) -> None:
        """Read the shared prefix.

        Args:
            backbone: the model.
            end_token: the token that ends a turn in its template.
            shared_prefix: tokens with which every sequence begins, int32; may be empty.
            engine: what runs the decoder, ``torch`` or ``openvino``.

        Raises:
            UserError: the engine cannot run this model, or its head is not known here.
        """
        backbone.check_head()
        self.backbone, self.end_token, self.shared_prefix = backbone, end_token, shared_prefix
        self.numbers = layer_numbers(backbone.config.layers, len(backbone.decoder.layers))
        self.engine = make_engine(engine, backbone, self.numbers, shared_prefix)

    def score(self, answers: Sequence[PackedAnswer]) -> tuple[np.ndarray, np.ndarray]:
        """Pooled states and quantities of a batch.

        Returns:
            float16 (n, slots, d), clamped to float16's range, and float32 (n, len(QUANTITIES)); a
            quantity of no tokens is NaN, their sum and number 0. All of an answer is NaN where the
            model gave an infinite number, or none, for any of it.
        """
        values = np.full((len(answers), len(QUANTITIES)), np.nan, dtype=np.float32)
        column = {name: i for i, name in enumerate(QUANTITIES)}
        with torch.inference_mode():
            *layers, final = self.engine.states([answer.ids for answer in answers])
            pooled = pooled_states(layers, answers)
            ends = token_log_probs(
                self.backbone, final, [end_target(a, self.end_token) for a in answers]
            )
            contents = token_log_probs(self.backbone, final, [content_targets(a) for a in answers])
            for row, (answer, content, end) in enumerate(zip(answers, contents, ends, strict=True)):
                quantities = conditional_quantities(answer, content, end)
                if np.isfinite(list(quantities.values())).all():
                    for name, value in quantities.items():
                        values[row, column[name]] = value
            rows = [row for row, answer in enumerate(answers) if answer.unconditional_length]
            if rows:
                final = self.engine.states([answers[row].unconditional for row in rows])[-1]
                targets = [unconditional_targets(answers[row]) for row in rows]
                for row, (log_probs, _, _) in zip(
                    rows, token_log_probs(self.backbone, final, targets), strict=True
                ):
                    values[row, column["bare"]] = log_probs.mean()
                    values[row, column["ratio"]] -= log_probs.mean()
                    if not np.isfinite(log_probs).all():
                        values[row] = np.nan
        states = pooled.cpu().numpy()
        lost = np.isnan(states).any(axis=(1, 2)) | np.isnan(values[:, column["tokens"]])
        states[lost], values[lost] = np.nan, np.nan
        return states, values
