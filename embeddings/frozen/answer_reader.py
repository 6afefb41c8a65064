"""Reading answers with a backbone: what one process does, and each actor of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.load import load_backbone
from embeddings.backbone.runtime import TORCH
from embeddings.cache.shards import SHARD_ITEMS
from embeddings.frozen.scoring import Scorer
from embeddings.inference import in_shards, one_core
from embeddings.prompts.answers import PackedAnswer


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
        self,
        items: Sequence[PackedAnswer],
        progress: Callable[[Sequence[PackedAnswer]], None] = lambda _: None,
    ) -> Iterator[tuple[list[bytes], dict[str, np.ndarray]]]:
        """Read items, shard by shard in their order.

        Args:
            items: what is to be read.
            progress: called with each batch that is done.

        Yields:
            Keys and arrays of a shard, for ``embeddings.cache.shards.ShardWriter.add``: ``states``
            and ``likelihood`` as ``Scorer.score`` gives them.
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
