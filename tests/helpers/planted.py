"""Toy battles whose winner a judge can see: its answer opens with a marker; a tie has none."""

import json

import numpy as np

from arena.predictions_file import one_hot
from embeddings.backbone.load import load_tokenizer
from embeddings.judge.config import JudgeConfig
from embeddings.judge.dataset import JudgeDataset
from embeddings.prompts.pairs import pack_pairs
from tests.helpers.tiny import save_tiny_model, tiny_battles

WORDS = ["the", "cat", "dog", "runs", "green"]
QUICK = JudgeConfig(max_tokens=256, rank=8, lr=1e-2, head_lr=1e-2, batch=8, dropout=0.1)


def save_shallow_model(folder, architecture="llama"):
    """A tiny model of two layers, which learn as well and in half the time."""
    path = save_tiny_model(folder, architecture) / "config.json"
    config = json.loads(path.read_text())
    # Gemma-2 also has a list with the kind of each layer.
    kinds = {name: value[:2] for name, value in config.items() if name == "layer_types"}
    path.write_text(json.dumps({**config, **kinds, "num_hidden_layers": 2}))
    return folder


def planted(n, seed=0):
    """A table of battles of as many prompts, with their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 3)
    rows = []
    for i, label in enumerate(labels):
        a, b = (" ".join(rng.choice(WORDS, rng.integers(3, 8))) for _ in "ab")
        rows.append(
            (f"{seed} {i}", "Paris " + a if label == 0 else a, "Paris " + b if label == 1 else b)
        )
    battles = tiny_battles(*rows)
    battles["label"] = labels
    return battles


def examples(battles, config, recipe=QUICK):
    """The battles, packed for training."""
    pairs = pack_pairs(battles, load_tokenizer(config), recipe.max_tokens)
    return JudgeDataset(pairs, one_hot(battles["label"].to_numpy()), battles["group"].tolist())
