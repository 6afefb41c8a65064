"""What every point works with: the device, models that are made when they are first needed."""

from __future__ import annotations

import gc
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.cuda.models import ON_A_CARD, ON_A_CPU, Sizes, save_model
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.load import Backbone, load_backbone, load_tokenizer
from embeddings.frozen.scoring import Scorer
from embeddings.inference import BatchBudget, first_line, read_shards
from embeddings.prompts.answers import PackedAnswer, PackedBattles, pack_battles
from tests.helpers.planted import WORDS
from tests.helpers.tiny import tiny_battles

CARD, TWO_CARDS, BITSANDBYTES, PEFT = "a card", "two cards", "bitsandbytes", "peft"

CHECKPOINTING = "activation_checkpointing_enable of newer transformers"

LETTERS = ("G", "L", "Q")

RAM_DISK = Path("/dev/shm")

ROOM = 12 * 2**30
"""Bytes that the models of real width and the runs of the commands take, with some to spare."""

ROOMY = 32 * 2**30
"""Memory of a card that holds all models at once."""

SHORTEST = 16


def work_folder(real: bool) -> Path:
    """A new folder on the RAM disk where it has room, else where temporary files lie."""
    room = ROOM if real else 2**28
    fits = RAM_DISK.is_dir() and shutil.disk_usage(RAM_DISK).free > room
    try:
        return Path(tempfile.mkdtemp(prefix="cuda_check_", dir=RAM_DISK if fits else None))
    except OSError:
        return Path(tempfile.mkdtemp(prefix="cuda_check_"))


def obstacle(needs: Sequence[str]) -> str:
    """Why something that is needed is not here; empty where all is."""
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for need in needs:
        if need == CARD and not cards:
            return "needs a card"
        if need == TWO_CARDS and cards < 2:
            return f"needs two cards, {cards} here"
        if need == CHECKPOINTING:
            missing = not hasattr(PreTrainedModel, CHECKPOINTING.split()[0])
        else:
            missing = need.isidentifier() and importlib.util.find_spec(need) is None
        if missing:
            return f"needs {need}"
    return ""


def broken() -> str:
    """Why CUDA can compute nothing more in this process; empty where it can."""
    try:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    except RuntimeError as error:
        return f"CUDA is broken in this process ({first_line(error)})"
    return ""


def quantized(quantization: str) -> tuple[str, ...]:
    """What a quantization needs."""
    return () if quantization == "none" else (BITSANDBYTES,)


@dataclass
class Bench:
    """Models on one device, and what they read.

    Attributes:
        device: ``cuda`` or ``cpu``.
        folder: for models and runs.
    """

    device: str
    folder: Path
    _scorers: dict[BackboneConfig, Scorer] = field(default_factory=dict)

    @property
    def sizes(self) -> Sizes:
        """How much is done."""
        return ON_A_CARD if self.device == "cuda" else ON_A_CPU

    def config(
        self, letter: str, quantization: str = "none", dtype: str = "bfloat16", **changes: Any
    ) -> BackboneConfig:
        """The configuration of a model, which is made now unless it is there.

        Args:
            letter: of the model.
            quantization: of its weights.
            dtype: of its weights and activations.
            changes: of other fields.
        """
        folder = self.folder / "models" / letter
        if not (folder / "config.json").exists():
            save_model(folder, letter, self.device, real=self.sizes.real)
            self.free()
        plain = BackboneConfig(name=letter, source=str(folder), max_tokens=2048)
        how: dict[str, Any] = {"quantization": quantization, "dtype": dtype, **changes}
        return replace(plain, **{"batch_tokens": self.sizes.batch_tokens, **how})

    def load(self, config: BackboneConfig, **how: Any) -> Backbone:
        """Load a model onto the device, by the project's own loader."""
        return load_backbone(config, self.device, **how)

    def scorer(self, config: BackboneConfig) -> Scorer:
        """What reads answers with a model; it stays loaded where there is memory for all."""
        if config not in self._scorers:
            self.make_room()
            packed = self.packed(config)
            backbone = self.load(config)
            self._scorers[config] = Scorer(backbone, packed.end_token, packed.shared_prefix)
        return self._scorers[config]

    def make_room(self) -> None:
        """Give back the memory of all models on a card that does not hold all at once."""
        if self.device == "cuda" and torch.cuda.get_device_properties(0).total_memory < ROOMY:
            self._scorers.clear()
        self.free()

    def drop(self) -> None:
        """Give back the memory of all models."""
        self._scorers.clear()
        self.free()

    def free(self) -> None:
        """Give back the memory of what nothing names any more."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def packed(self, config: BackboneConfig) -> PackedBattles:
        """24 answers of 16 tokens and more to the longest, in even steps of the logarithm."""
        return _packed(replace(config, quantization="none", dtype="bfloat16"), self.sizes.longest)

    def allocated(self) -> float:
        """Bytes of the card's memory that tensors hold; 0 without a card."""
        return float(torch.cuda.memory_allocated()) if self.device == "cuda" else 0.0

    def peak(self, body: Callable[[], Any]) -> float:
        """Most bytes of the card's memory that tensors hold during a call; 0 without a card."""
        if self.device == "cuda":
            self.free()
            torch.cuda.reset_peak_memory_stats()
        body()
        return float(torch.cuda.max_memory_allocated()) if self.device == "cuda" else 0.0

    def synchronize(self) -> None:
        """Wait for the card."""
        if self.device == "cuda":
            torch.cuda.synchronize()


@lru_cache(maxsize=16)
def _packed(config: BackboneConfig, longest: int) -> PackedBattles:
    tokenizer = load_tokenizer(config)
    rng = np.random.default_rng(0)
    lengths = np.geomspace(SHORTEST, longest, 24)

    def text(tokens: float) -> str:
        # The prompt and the template take some tokens of the shortest.
        ids = tokenizer(" ".join(rng.choice(WORDS, longest)), add_special_tokens=False)["input_ids"]
        return str(tokenizer.decode(ids[: max(2, round(tokens) - 12)]))

    rows = [(f"Why {i}?", text(a), text(b)) for i, (a, b) in enumerate(lengths.reshape(12, 2))]
    return pack_battles(tiny_battles(*rows), config, tokenizer, "")


def read(
    scorer: Scorer, answers: Sequence[PackedAnswer], tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """States and quantities of answers, read as ``extract.py`` does: in batches of so many tokens.

    Returns:
        float32 (n, slots * d) and float32 (n, quantities), in the answers' order.
    """

    def score(batch: Sequence[PackedAnswer]) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(zip(*scorer.score(batch), strict=True))

    numbers = [n for _, part in read_shards(answers, score, BatchBudget(tokens)) for n in part]
    return joined(numbers)


def read_alone(scorer: Scorer, answers: Sequence[PackedAnswer]) -> tuple[np.ndarray, np.ndarray]:
    """The same, each answer in a batch of its own."""
    pairs = [scorer.score([answer]) for answer in answers]
    return joined([(states[0], values[0]) for states, values in pairs])


def joined(numbers: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """States and quantities of many answers of those of each."""
    states = np.stack([s for s, _ in numbers]).astype(np.float32)
    return states.reshape(len(states), -1), np.stack([v for _, v in numbers])


def apart(some: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far rows are apart: the norm of the difference over that of ``other``; float (n,)."""
    return np.linalg.norm(some - other, axis=1) / np.linalg.norm(other, axis=1)


def cosines(some: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosines of rows; float (n,)."""
    norms = np.linalg.norm(some, axis=1) * np.linalg.norm(other, axis=1)
    return (some * other).sum(axis=1) / norms
