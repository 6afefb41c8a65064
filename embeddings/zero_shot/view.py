"""The view of a model that nobody trained for the task: its verdict on any battles."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from arena.feature_table import FeatureTable
from arena.view import View
from common.errors import Code, UserError
from common.files import check_writable
from common.run_dir import RunDir
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.load import load_tokenizer
from embeddings.cache.memory import exclusive, kept
from embeddings.frozen.likelihood import recorded_config
from embeddings.frozen.pair_states import with_room
from embeddings.order_budget import Reading, SecondOrder, read_by_budget
from embeddings.prompts.pairs import Pairs, SomeOrders, pack_with
from embeddings.view_kinds import VERDICT
from embeddings.zero_shot.endpoint import LIMITS, Endpoint
from embeddings.zero_shot.http_client import API_KEY, one_line
from embeddings.zero_shot.judge import packing, query_backbone, query_endpoint, verdict_view


class ZeroShotVerdict(View):
    """Which letter a model would say: a local backbone, or one behind an endpoint."""

    kind = VERDICT

    def __init__(
        self,
        name: str,
        config: BackboneConfig | None,
        endpoint: Endpoint | None,
        max_tokens: int,
        folder: Path | None,
        shared: dict[Any, Any] | None = None,
        second: SecondOrder | None = None,
    ) -> None:
        """The view of a model; nothing is loaded or sent yet.

        Args:
            name: of the view.
            config: the local backbone; with an endpoint, whose tokenizer and chat template the
                model there has, or none for plain text.
            endpoint: where the model is, unless it is local.
            max_tokens: most tokens of a question.
            folder: where answers are kept; those of a local backbone stay in memory without it.
            shared: where a local backbone stays loaded.
            second: what is known of the second order, where the closest calls alone are read in it;
                without it all battles are read in both.
        """
        self.name, self.endpoint, self.max_tokens = name, endpoint, max_tokens
        self.config = with_room(config, max_tokens) if config and not endpoint else config
        self.folder, self.shared, self.second = folder, shared, second

    @classmethod
    def of_run(cls, run: RunDir, name: str, shared: dict[Any, Any]) -> Self:
        """The model that ``verdict.py`` used for a view.

        A local backbone's answers stay in memory. An endpoint is queried only where the run's
        record has one, which a line on stderr says; what it answers is kept in the run, or as long
        as the process runs where the run cannot be written.

        Raises:
            UserError: the run does not say which model it was, or its endpoint is not valid, or a
                key is set that would go to an endpoint that only the run names.
        """
        recorded = run.read_record().get("verdict", {}).get(name)
        if recorded is None:
            raise UserError(
                Code.VIEW_OUTDATED,
                f"{run.folder} does not say which model made its view {name}. Rerun "
                f"`python pipelines/verdict.py --view {name} --run {run.folder}`.",
            )
        backbone, endpoint = recorded["backbone"], recorded["endpoint"]
        if endpoint is not None and os.environ.get(API_KEY, "").strip():
            raise UserError(
                Code.API_KEY_WITHHELD,
                f"{API_KEY} is set, and no key is sent to an endpoint named by run.json alone. "
                f"Unset it, or do without the view {name}.",
            )
        where = None
        if endpoint is not None:
            limits = {limit: endpoint.get(limit, default) for limit, default in LIMITS.items()}
            where = Endpoint.of(endpoint["url"], endpoint["model"], **limits)
            print(
                f"view {name}: the texts of new battles are sent to {one_line(where.url)}, which "
                "run.json names",
                file=sys.stderr,
            )
        return cls(
            name,
            recorded_config(backbone) if backbone["asked"] else None,
            where,
            recorded["max_tokens"],
            _responses_folder(run, shared) if endpoint else None,
            shared,
            SecondOrder.of(recorded.get("second_order")),
        )

    def transform(self, battles: pd.DataFrame) -> FeatureTable:
        """The model's verdict on battles.

        Args:
            battles: rows of the canonical table with an empty ``reason``, n.

        Raises:
            UserError: the model cannot be had, or its endpoint fails.
        """
        with exclusive(self.shared):
            pairs = self.pack(battles, self.tokenizer())
            return verdict_view(pairs, self.read([pairs])[0].logits)

    def tokenizer(self) -> Any:
        """The tokenizer of the model, or ``None`` where questions are plain text."""
        config = self.config
        if config is None:
            return None
        return kept(self.shared, ("tokenizer", config.source), lambda: load_tokenizer(config))

    def pack(self, battles: pd.DataFrame, tokenizer: Any) -> Pairs:
        """Battles as questions, in tokens of a tokenizer or as plain text."""
        packer, budget = packing(tokenizer, self.max_tokens)
        return pack_with(packer, battles, budget)

    def read(self, tables: Sequence[Pairs]) -> list[Reading]:
        """What the model says of tables of packed battles, in both orders or by budget.

        Raises:
            UserError: as ``query``.
        """
        if self.second is not None:
            return read_by_budget(self.query, tables, self.second)
        readings = []
        for log_probs in self.query(tables):
            forward, swapped = np.split(log_probs, 2)
            readings.append(Reading(forward, swapped, np.ones(len(forward), bool), log_probs))
        return readings

    def query(self, tables: Sequence[Pairs | SomeOrders]) -> list[np.ndarray]:
        """What the model says of sequences; only what it did not say before is read.

        Returns:
            Of each table log-probabilities float32 (m, 3) of its m sequences.

        Raises:
            UserError: the model cannot be had, or its endpoint fails.
        """
        if self.endpoint is not None:
            assert self.folder is not None
            return query_endpoint(tables, self.endpoint, self.tokenizer(), self.folder)
        assert self.config is not None
        return query_backbone(tables, self.config, self.folder, self.shared)


def _responses_folder(run: RunDir, shared: dict[Any, Any]) -> Path:
    """Where an endpoint's answers are kept: in the run, else in a folder of this process."""
    folder = run.folder / "verdict"
    try:
        check_writable(folder / "responses", "")
    except UserError:
        key = "responses", run.folder
        own = kept(shared, key, lambda: tempfile.TemporaryDirectory(prefix="tiebreak-"))
        return Path(own.name)
    return folder
