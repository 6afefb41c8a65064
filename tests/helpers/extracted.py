"""Few battles, and what an extraction of them leaves on the disk."""

import numpy as np

from embeddings.frozen.extract import extract
from embeddings.frozen.language_model import LanguageModel
from tests.helpers.tiny import tiny_battles

SHARD = 8
"""Items of a shard here, so that few battles make several."""

WORDS = ["the", "cat", "dog", "runs", "green", "because", "however", "1", "list"]


def text(rng, most):
    return " ".join(rng.choice(WORDS, rng.integers(1, most)))


def random_battles(n):
    """Battles whose answers all differ, one of them empty."""
    rng = np.random.default_rng(0)
    rows = [(text(rng, 9), f"{i} {text(rng, 25)}", f"no {i}, {text(rng, 25)}") for i in range(n)]
    return tiny_battles(("Why?", "", "Because."), *rows[1:])


BATTLES = random_battles(10)
FEW = BATTLES[:3]


def extract_all(battles, config, folder, split):
    extract([battles], len(battles), LanguageModel(config), folder, split)


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
