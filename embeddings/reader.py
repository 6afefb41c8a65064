"""Reading answers with a backbone: what one process does, and each actor of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from embeddings.backbone import load_backbone
from embeddings.config import BackboneConfig
from embeddings.engine import TORCH
from embeddings.reading import in_shards, one_core
from embeddings.scoring import Item, Scorer
from embeddings.store import SHARD_ITEMS


class AnswerReader:
    """A loaded backbone that reads items."""

    def __init__(
        self, config: BackboneConfig, end_token: int, opening: np.ndarray, engine: str = TORCH
    ) -> None:
        """Load the backbone; the arguments are ``Scorer``'s.

        Raises:
            UserError: the backbone cannot be had, or the engine cannot run it.
        """
        backbone = load_backbone(config)
        self._budget = backbone.batch_tokens
        with one_core():
            self._scorer = Scorer(backbone, end_token, opening, engine)

    def read(
        self, items: Sequence[Item], progress: Callable[[Sequence[Item]], None] = lambda _: None
    ) -> Iterator[tuple[list[bytes], dict[str, np.ndarray]]]:
        """Read items, shard by shard in their order.

        Args:
            items: what is to be read.
            progress: called with each batch that is done.

        Yields:
            Keys and arrays of a shard, for ``embeddings.store.Writer.add``: ``states`` and
            ``likelihood`` as ``Scorer.score`` gives them.
        """
        for part, scored in in_shards(
            items,
            self._scorer.score,
            size=SHARD_ITEMS,
            length=lambda item: item.longest,
            budget=self._budget,
            progress=progress,
            lowered=self._lower,
        ):
            states, likelihood = (np.concatenate(found) for found in zip(*scored, strict=True))
            yield [item.key for item in part], {"states": states, "likelihood": likelihood}

    def _lower(self, budget: int) -> None:
        """Read in smaller batches from now on, in other windows too."""
        self._budget = budget
