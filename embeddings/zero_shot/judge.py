"""The zero-shot verdict: which letter a language model would say that nobody trained for the task.

``embeddings.zero_shot.prompt`` is read in both orders, by a local backbone or by an endpoint, and
kept by content. No vote is seen, so there is nothing to cross-fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arena.feature_table import FeatureTable
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import store_suffix
from embeddings.backbone.load import Backbone, load_backbone, load_tokenizer, model_settings
from embeddings.both_orders import columns, view_values
from embeddings.cache.memory import MemoryStore, Store, kept
from embeddings.cache.responses import ResponseCache
from embeddings.cache.shards import ShardWriter, as_keys, ragged, settings_hash
from embeddings.frozen.extract import NAMED
from embeddings.inference import BatchBudget
from embeddings.prompts.chat_template import TEMPLATE_VERSION
from embeddings.prompts.pairs import PackedPair, Pairs, SomeOrders, distinct
from embeddings.prompts.truncation import Packer
from embeddings.replicas import Replica, devices_for, read_with
from embeddings.zero_shot.endpoint import PROBE, SILENT, Endpoint
from embeddings.zero_shot.prompt import (
    CHARACTERS_A_TOKEN,
    QUESTION_VERSION,
    letter_tokens,
    text_packer,
    token_packer,
)

COLUMNS = columns("verdict")

VERSIONS: dict[str, object] = {"template": TEMPLATE_VERSION, "question": QUESTION_VERSION}


def packing(tokenizer: Any, max_tokens: int) -> tuple[Packer, int]:
    """How battles become questions: the packer, and its budget.

    Args:
        tokenizer: the model's; ``None`` packs plain text.
        max_tokens: most tokens of a question.
    """
    if tokenizer is None:
        return text_packer(), CHARACTERS_A_TOKEN * max_tokens
    return token_packer(tokenizer), max_tokens


def query_backbone(
    tables: Sequence[Pairs | SomeOrders],
    config: BackboneConfig,
    folder: Path | None = None,
    shared: dict[Any, Any] | None = None,
) -> list[np.ndarray]:
    """Letter log-probabilities of a local backbone; only missing ones are computed.

    Args:
        tables: battles packed as token ids of the backbone, m sequences each.
        config: the backbone, with the questions' ``max_tokens``.
        folder: where answers are kept, each kind in a folder of its own; without it in memory.
        shared: where the model stays loaded, and answers that have no folder.

    Returns:
        Of each table log-probabilities float32 (m, 3) of its sequences, in the order of
        ``LETTERS``.

    Raises:
        UserError: the backbone cannot be had, or has no token for a letter.
    """
    letters = letter_tokens(load_tokenizer(config))
    settings = {**VERSIONS, **model_settings(config), "letters": letters}
    name = settings_hash(settings)
    store: Store = (
        ShardWriter(folder / (name + store_suffix(config)), settings, "python pipelines/verdict.py")
        if folder
        else kept(shared, ("verdict", name), MemoryStore)
    )
    missing = store.missing(distinct(*tables))
    if missing:
        load = partial(_loaded, config)
        read_with(
            lambda: _replica(kept(shared, ("zero-shot backbone", config), load), letters),
            partial(_worker_replica, config, letters),
            devices_for(config) if folder else (),
            store,
            missing,
            f"{config.name} answers",
        )
    places = [store.require(as_keys([s.key for s in table.sequences])) for table in tables]
    return [store.rows(rows, "values").reshape(-1, 3) for rows in places]


def _loaded(config: BackboneConfig) -> Backbone:
    backbone = load_backbone(config)
    backbone.check_head()
    return backbone


def _replica(
    backbone: Backbone, letters: Sequence[Sequence[int]]
) -> Replica[PackedPair, torch.Tensor]:
    """What reads with a loaded backbone."""
    read = partial(read_letters, backbone, letters)
    return Replica(read, BatchBudget(backbone.batch_tokens), ragged)


def _worker_replica(
    config: BackboneConfig, letters: Sequence[Sequence[int]]
) -> Replica[PackedPair, torch.Tensor]:
    """What a worker process reads with."""
    return _replica(_loaded(config), letters)


def read_letters(
    backbone: Backbone, letters: Sequence[Sequence[int]], batch: Sequence[PackedPair]
) -> list[torch.Tensor]:
    """Log-probabilities that the next token is one of each letter's, float32 (1, 3) a question.

    Padding stands on the right: attention looks left, so nothing that is read can see it.
    """
    ids = [torch.from_numpy(s.ids).long() for s in batch]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(backbone.device)
    with torch.inference_mode():
        states = backbone.decoder(input_ids=padded, use_cache=False).last_hidden_state
        ends = torch.tensor([len(s.ids) - 1 for s in batch], device=states.device)
        last = states[torch.arange(len(batch)), ends]
        total = backbone.logits(last).float().logsumexp(dim=1)
        log_probs = torch.stack(
            [backbone.exact_logits(last, tokens).logsumexp(dim=1) - total for tokens in letters],
            dim=1,
        )
    return list(torch.split(log_probs.cpu(), 1))


def query_endpoint(
    tables: Sequence[Pairs | SomeOrders], endpoint: Endpoint, tokenizer: Any, folder: Path
) -> list[np.ndarray]:
    """Letter log-probabilities of an endpoint's model; only missing ones are requested.

    Args:
        tables: battles packed for the tokenizer, m sequences each.
        endpoint: where the model is.
        tokenizer: the model's; ``None`` where questions are plain text.
        folder: where answers are kept, each kind in a folder of its own.

    Returns:
        As ``query_backbone``.

    Raises:
        UserError: the endpoint cannot be reached, lacks model or logprobs, or fails too often.
    """
    probe = None if tokenizer is None else token_packer(tokenizer).encoder.text(PROBE)
    settings: dict[str, object] = {
        **VERSIONS,
        "endpoint": endpoint.model,
        "model": endpoint.identify(probe),
        "top_logprobs": endpoint.top_logprobs,
        "text": tokenizer is None,
    }
    with ResponseCache(folder / settings_hash(settings), settings) as cache:
        missing = cache.missing(distinct(*tables))
        if missing:
            endpoint.query(missing, cache, text=tokenizer is None)
        answers = [cache.get(table.sequences) for table in tables]
    unseen = np.concatenate([unseen for _, unseen in answers])
    silent = np.concatenate([log_probs[:, 0] == SILENT for log_probs, _ in answers])
    incomplete = (unseen > 0) & ~silent
    if incomplete.any():
        print(
            f"{incomplete.mean():.1%} of the answers lack a letter among the "
            f"{endpoint.top_logprobs} likeliest tokens: it takes the smallest probability seen"
        )
    if silent.any():
        owners = [name for table in tables for name in table.owners]
        names = list(dict.fromkeys(ascii(owners[row]) for row in np.flatnonzero(silent)))
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        print(
            f"{int(silent.sum()):,} of the answers came without logprobs and say nothing: "
            f"id {', '.join(names[:NAMED])}{more}"
        )
    return [log_probs for log_probs, _ in answers]


def verdict_view(pairs: Pairs, log_probs: np.ndarray) -> FeatureTable:
    """The view of battles.

    Args:
        pairs: packed battles, n.
        log_probs: of the letters (2n, 3), of A before B, then of B before A. Where one is not
            finite the battle has NaN in all columns.
    """
    n = len(pairs.ids)
    finite = np.isfinite(log_probs).all(axis=1)
    values = np.full((n, len(COLUMNS)), np.nan, dtype=np.float32)
    rows = finite[:n] & finite[n:]
    values[rows] = view_values(log_probs[:n][rows], log_probs[n:][rows])
    return FeatureTable(pairs.ids, values, COLUMNS)
