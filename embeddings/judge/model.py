"""The judge: a backbone with LoRA on its linear projections and a head that says A, B or tie.

The head gets the states of ``embeddings.frozen.pair_reader``, of one depth or several, in float32
(at full depth after the final norm).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from arena.schema import SEED
from common.errors import Code, UserError
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.layers import LayerRange
from embeddings.backbone.load import Backbone
from embeddings.cache.tensor_files import read_tensors, write_tensors
from embeddings.frozen.pair_reader import Inputs, PairReader, token_ids
from embeddings.judge.config import JudgeConfig
from embeddings.judge.head import Head, states_of, unscaled
from embeddings.judge.probe import Probe
from embeddings.prompts.pairs import PackedPair


def check_trainable(config: BackboneConfig, training: JudgeConfig) -> None:
    """Check that a backbone can be trained, where it is to be; one that only predicts may be any.

    Raises:
        UserError: it is to compute in float16, which needs loss scaling.
    """
    if config.dtype == "float16" and training.epochs:
        raise UserError(
            Code.FLOAT16_UNTRAINABLE,
            f"backbone {config.name}: float16 cannot be trained. Set dtype: bfloat16 (or float32) "
            "in its YAML; with --epochs 0 a head is fitted to its frozen states.",
        )


class Judge(nn.Module):
    """A backbone made ready to be trained, or to be given trained weights.

    An instance that has predicted must not be trained: on a CPU an nf4 model that has read without
    gradients has rearranged its weights in a way that training ignores, silently. Load another.
    """

    model: Any
    head: Head

    def __init__(self, backbone: Backbone, training: JudgeConfig) -> None:
        """Change ``backbone`` in place; the same seed initialises every judge.

        Judges of all folds start from one point, so that their weights may be averaged.
        """
        # It loads bitsandbytes, which takes seconds and speaks while it does: nothing for --help.
        from peft import LoraConfig, inject_adapter_in_model

        super().__init__()
        self.where, self.batch_tokens = backbone.device, backbone.batch_tokens
        layers = LayerRange.of(training.depths, training.top_layers, backbone.depth)
        self.reader = PairReader(backbone, layers, training.pool)
        torch.manual_seed(SEED)
        width = backbone.model.get_input_embeddings().embedding_dim
        self.head = Head(training, states_of(training, len(layers.reads)), width).to(
            backbone.device
        )
        self.model = inject_adapter_in_model(
            LoraConfig(
                r=training.rank,
                lora_alpha=training.alpha,
                lora_dropout=training.dropout,
                target_modules="all-linear",
            ),
            backbone.model,
        )
        for name, parameter in self.named_parameters():
            trained = "lora_" in name or name.startswith("head.")
            parameter.requires_grad_(trained)
            if trained:
                # Master weights: bfloat16 has 8 bits, and a step of 1e-4 would round to nothing.
                parameter.data = parameter.data.float()
        for module in self.model.modules():
            if self.reader.autocasts and hasattr(module, "lora_A"):
                # Autocast casts by itself; by way of float32 it is the same and takes longer.
                module.cast_input_dtype_enabled = False
        if training.gradient_checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name, in a fixed order."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """What makes this judge of its backbone, by name: what is trained, and the head's scale."""
        return {**self.trained, "head.mean": self.head.mean, "head.scale": self.head.scale}

    @property
    def dtype(self) -> torch.dtype:
        """In which the backbone computes; what is trained is float32."""
        return self.reader.dtype

    def start(self, probe: Probe) -> None:
        """Let the head say what a probe of the frozen states says."""
        self.head.start(probe)

    def forward(self, batch: Sequence[PackedPair], inputs: Inputs = token_ids) -> torch.Tensor:
        """Logits of a batch, float32 (n, 3), in the order of ``arena.schema.CLASSES``."""
        logits: torch.Tensor = self.head(self.reader.states(batch, inputs).flatten(1))
        return logits

    def read(self, batch: Sequence[PackedPair], inputs: Inputs) -> list[torch.Tensor]:
        """Logits of sequences without gradients, for ``embeddings.inference``: (1, 3) each."""
        with torch.inference_mode():
            return list(self(batch, inputs).cpu().split(1))

    def save(self, path: Path) -> None:
        """Write ``weights`` as safetensors, atomically."""
        write_tensors(path, {n: p.detach().cpu().contiguous() for n, p in self.weights.items()})

    def load(self, weights: Mapping[str, torch.Tensor]) -> Judge:
        """Take saved ``weights``; go to eval mode.

        Raises:
            UserError: they are of another training configuration or backbone.
        """
        mine = self.weights
        if {n: w.shape for n, w in weights.items()} != {n: p.shape for n, p in mine.items()}:
            raise UserError(
                Code.CHECKPOINT_DIFFERS,
                "The saved weights are of another backbone or training configuration. Rerun "
                "finetune.py.",
            )
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(weights[name])
        return self.eval()


def average(paths: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The weights of one judge of K times the rank, whose every matrix is the mean of K judges'.

    LoRA adds B A to a projection; the mean of K such products is one product of all A stacked and
    all B side by side over K. (The 1st place of the LMSYS competition averaged A and B each on
    their own, which is not the mean of the products, and here loses more.) The heads are averaged
    as maps of unscaled states; of a linear head that is the mean of the maps.

    Args:
        paths: files that ``Judge.save`` wrote, of one training configuration; the result fits one
            with K times its ``rank`` and ``alpha``.

    Raises:
        DamagedError: a file is damaged.
    """
    judges = [unscaled(read_tensors(path, unsigned=True)[0]) for path in paths]
    mean = {}
    for name in judges[0]:
        weights = [judge[name] for judge in judges]
        if "lora_A" in name:
            mean[name] = torch.cat(weights, dim=0)
        elif "lora_B" in name:
            mean[name] = torch.cat(weights, dim=1) / len(judges)
        else:
            mean[name] = torch.stack(weights).mean(dim=0)
    return mean
