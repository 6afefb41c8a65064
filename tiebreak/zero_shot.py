"""The zero-shot verdict of a run's battles: by a local backbone or an endpoint, on disk."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from arena.battle_table import texts_hash
from arena.feature_table import FeatureTable
from arena.predictions_file import from_log_odds
from common.errors import Code, UserError
from common.lock import run_lock
from common.run_dir import RunDir
from embeddings.backbone.config import BackboneConfig, finetune_entries, load_config
from embeddings.backbone.device import machine
from embeddings.both_orders import mean_odds
from embeddings.cache.shards import settings_hash
from embeddings.frozen.costs import memory_lines
from embeddings.frozen.extract import warn_non_finite
from embeddings.frozen.machine import machine_lines
from embeddings.frozen.plan import counting_tokenizer
from embeddings.judge.config import JudgeConfig
from embeddings.order_budget import (
    BOTH,
    BUDGET,
    FITTED,
    SHARE,
    Reading,
    SecondOrder,
    fit_second_order,
)
from embeddings.prompts.pairs import distinct
from embeddings.replicas import check_devices
from embeddings.view_kinds import VERDICT
from embeddings.zero_shot.endpoint import LIMITS, Endpoint
from embeddings.zero_shot.http_client import API_KEY, one_line
from embeddings.zero_shot.judge import verdict_view
from embeddings.zero_shot.view import ZeroShotVerdict
from meta.votes import scored_votes
from tiebreak.last_options import backbone_entry, log_loss_of, resolved, valid_battles
from tiebreak.run_record import chosen_backbone, record_costs

VIEW_NAME = re.compile(r"verdict(-[\w.-]+)?")


@dataclass(frozen=True)
class VerdictOptions:
    """A zero-shot verdict, resolved: as named, else as the last time, else the default."""

    view: str
    backbone: str
    """As it was given; empty where an endpoint gets plain text."""
    config: BackboneConfig | None
    endpoint: Endpoint | None
    max_tokens: int
    orders: str
    second_share: float

    @classmethod
    def of(cls, run: RunDir, named: Mapping[str, Any]) -> VerdictOptions:
        """Resolve the options that a call names.

        Args:
            run: the run.
            named: any of ``view``, ``backbone``, ``quantization``, ``endpoint`` (a URL) with
                ``model``, ``max_tokens``, ``orders``, ``second_share`` and the names of ``LIMITS``.

        Raises:
            UserError: a name, backbone or endpoint is not valid, or the run's endpoint would get a
                key.
        """
        record = run.read_record()
        url, model = named.get("endpoint", ""), named.get("model", "")
        name, quantization = named.get("backbone", ""), named.get("quantization")
        if bool(url) != bool(model):
            raise UserError(
                Code.OPTIONS_CONFLICT,
                "--endpoint URL needs --model NAME, as the server calls it, and the reverse.",
            )
        view = named.get("view") or _default_name(
            model.rsplit("/", 1)[-1] if url else chosen_backbone(name, quantization, record)[1].name
        )
        if not VIEW_NAME.fullmatch(view):
            raise UserError(
                Code.OPTION_INVALID, f"--view {view}: the name must begin with verdict."
            )
        last = record.get("verdict", {}).get(view, {})
        last_name = last.get("backbone", {}).get("asked")
        there = last.get("endpoint") or {}
        if there and not (url or name):
            url, model = there["url"], there["model"]
            _withhold_key(url, model, last_name)
        if url and quantization:
            raise UserError(
                Code.OPTIONS_CONFLICT, "--quantization is for a local model, not for an --endpoint."
            )
        if url:
            # The tokenizer of the last time is that of the model of the last time.
            name = name or (last_name if there.get("model") == model else "")
            config = load_config(name) if name else None
        else:
            name, config = chosen_backbone(
                name, quantization, last if last and not there else record
            )
        longest = JudgeConfig.of(finetune_entries(name) if name else {}).longest
        tokens = resolved(named, last if name == last_name else {}, {"max_tokens": longest})
        endpoint = Endpoint.of(url, model, **resolved(named, there, LIMITS)) if url else None
        orders = resolved(named, last, {"orders": BOTH, "second_share": SHARE})
        _check_orders(named, **orders)
        return cls(view, name, config, endpoint, **tokens, **orders)

    def record(self) -> dict[str, Any]:
        """The entry in run.json from which the next call starts."""
        return {
            "backbone": backbone_entry(self.backbone, self.config),
            "endpoint": asdict(self.endpoint) if self.endpoint else None,
            "max_tokens": self.max_tokens,
            # Views that are read in both orders keep their address.
            **(
                {"orders": self.orders, "second_share": self.second_share}
                if self.orders == BUDGET
                else {}
            ),
        }

    @property
    def source(self) -> str:
        """Hash of all that changes the view, as it was before run.json had configurations."""
        record = self.record()
        record["backbone"].pop("config", None)
        return settings_hash(record)

    def device_notes(self) -> list[str]:
        """What is slow on this machine's card; nothing where an endpoint reads.

        Raises:
            UserError: PyTorch cannot use it.
        """
        return check_devices(self.config) if self.config and not self.endpoint else []

    def machine(self) -> dict[str, Any]:
        """What computes here, for run.json; of an endpoint's machine nothing is known.

        Raises:
            UserError: PyTorch cannot use the GPU.
        """
        return machine(self.config) if self.config and not self.endpoint else {"device": "endpoint"}

    def line(self) -> str:
        """All of them, for people."""
        config, endpoint = self.config, self.endpoint
        if endpoint is not None:
            text = f"tokens of {config.name}" if config else "plain text"
            limits = " ".join(f"{name}={getattr(endpoint, name)}" for name in LIMITS)
            model = f"model {endpoint.model} at {endpoint.url}, {text}, {limits}"
        else:
            assert config is not None
            model = f"backbone {config.name}, {config.quantization}, {config.dtype}"
        orders = f"orders={self.orders}"
        if self.orders == BUDGET:
            orders += f" second_share={self.second_share}"
        return f"view {self.view}: {model} max_tokens={self.max_tokens} {orders}"


def plan_lines(run: RunDir, options: VerdictOptions) -> list[str]:
    """What a verdict takes; a stand-in counts where the backbone's tokenizer is missing.

    Raises:
        UserError: the run has no training battles.
    """
    view = ZeroShotVerdict(options.view, options.config, options.endpoint, options.max_tokens, None)
    notes = options.device_notes()
    tokenizer, note = counting_tokenizer(options.config) if options.config else (None, "")
    packed = [view.pack(table, tokenizer) for table in valid_battles(run).values()]
    lengths = [len(question.ids) for question in distinct(*packed)]
    unit = "tokens" if options.config else "characters"
    cut = np.concatenate([pairs.cut for pairs in packed])
    lines = [
        f"  battles {len(cut):,}, distinct questions in both orders {len(lengths):,}, {unit} "
        f"{sum(lengths):,} (longest {max(lengths):,}); truncated {(cut > 0).mean():.1%}"
    ]
    if options.orders == BUDGET:
        share = options.second_share
        lines.append(
            f"  of these about {(1 + share) / 2:.0%} are read: one order of each battle, and both "
            f"of the closest {share:.0%} and of up to {FITTED} training battles"
        )
    if options.endpoint is not None:
        lines.append(
            f"  at most {len(lengths):,} requests of one answered token each to "
            f"{options.endpoint.url}, {options.endpoint.concurrency} at a time, less those that "
            "are answered already"
        )
    elif view.config is not None:
        lines += memory_lines(max(lengths), view.config)
        notes += machine_lines(run.folder, view.config)
    return [*notes, *([note] if note else []), *lines]


def verdict_run(run: RunDir, named: Mapping[str, Any]) -> None:
    """Ask for every verdict that is missing and write the view.

    Args:
        run: the run, whose battles are there.
        named: the options of this call, see ``VerdictOptions.of``.

    Raises:
        UserError: an option is not valid, or the model cannot be had or queried.
    """
    battles = valid_battles(run)
    options = VerdictOptions.of(run, named)
    print("\n".join([options.line(), *options.device_notes()]), flush=True)
    folder = run.folder / "verdict"
    folder.mkdir(exist_ok=True)
    with run.reading("verdict.py"), run_lock(folder, "verdict.py"):
        start = time.monotonic()
        view = ZeroShotVerdict(
            *(options.view, options.config, options.endpoint, options.max_tokens, folder),
            # The model reads more than once: it stays.
            shared={} if options.orders == BUDGET else None,
        )
        tokenizer = view.tokenizer()
        packed = {split: view.pack(table, tokenizer) for split, table in battles.items()}
        entry = options.record()
        if options.orders == BUDGET:
            view.second = fit_second_order(view.query, packed["train"], options.second_share)
            entry["second_order"] = view.second.record()
        readings = dict(zip(packed, view.read(list(packed.values())), strict=True))
        _print_mass(np.concatenate([reading.first for reading in readings.values()]))
        tables = {
            split: verdict_view(pairs, readings[split].logits) for split, pairs in packed.items()
        }
        for split, table in tables.items():
            warn_non_finite(split, table.ids, np.isnan(table.values[:, 0]), options.view)
            path = run.views / options.view / f"{split}.parquet"
            table.write(path, texts_hash(battles[split]), options.source, VERDICT.name)
        same = run.read_record().get("verdict", {}).get(options.view) == entry
        run.update_record(
            verdict={options.view: entry},
            machine={options.view: options.machine()},
        )
        record_costs(run, same, seconds={options.view: round(time.monotonic() - start, 3)})
        print_metrics(tables["train"], scored_votes(battles["train"]), readings["train"].both)
        if view.second is not None:
            _print_budget(list(readings.values()), view.second)


def print_metrics(table: FeatureTable, votes: np.ndarray, both: np.ndarray) -> None:
    """Print metrics of the battles that have a verdict; ``votes`` int (n,).

    How far the verdict moves between the orders is of those that were read in ``both``, bool (n,).
    """
    loss, count = log_loss_of(table, votes)
    if count:
        values = table.frame()[both]
        where = "" if both.all() else f" of the {both.sum():,} that count in both orders,"
        print(
            f"log loss of this verdict alone, uncalibrated, on {count:,} battles: {loss:.4f} "
            f"(uniform {np.log(3):.4f});{where} where an answer stands moves its log-odds by "
            f"{values['absposition'].mean():.2f} in the mean, what it says by "
            f"{values['absside'].mean():.2f}"
        )


def _print_budget(readings: Sequence[Reading], second: SecondOrder) -> None:
    """Print how many battles were read in both orders, and what the second one changed."""
    both = np.concatenate([reading.both for reading in readings])
    first = np.concatenate([reading.first for reading in readings])
    forward = np.concatenate([reading.forward for reading in readings])
    swapped = np.concatenate([reading.swapped for reading in readings])
    # As the swapped battle, where B before A was read first: the likeliest class is the same.
    other = np.where((forward == first).all(axis=1, keepdims=True), swapped, forward)
    alone, said = (mean_odds(first, order) for order in (second.expected(first), other))
    changed = from_log_odds(*alone).argmax(axis=1) != from_log_odds(*said).argmax(axis=1)
    print(
        f"{both.sum():,} of {len(both):,} battles count in both orders; the second one changed "
        f"the likeliest class of {changed[both].mean() if both.any() else 0:.1%} of them. For the "
        "others stands what the first order makes expected of the second. To learn that, up to "
        f"{FITTED} training battles were read in both"
    )


def _check_orders(named: Mapping[str, Any], orders: str, second_share: float) -> None:
    """Check how many battles are read in both orders.

    Raises:
        UserError: the share is none, or has no effect.
    """
    if not 0 < second_share < 1:
        raise UserError(
            Code.OPTION_INVALID, f"--second-share {second_share} is not between 0 and 1."
        )
    if orders == BOTH and "second_share" in named:
        raise UserError(
            Code.OPTIONS_CONFLICT, f"--second-share has no effect without --orders {BUDGET}."
        )


def _print_mass(log_probs: np.ndarray) -> None:
    """Print how much of the next token's probability the letters hold, of rows that are finite."""
    mass = np.exp(log_probs).sum(axis=1)
    if np.isfinite(mass).any():
        mean = mass[np.isfinite(mass)].mean()
        print(f"A, B and C hold {mean:.1%} of the next token's probability in the mean")


def _default_name(title: str) -> str:
    """The name of a model's view."""
    slug = re.sub(r"[^\w.]+", "-", title).strip("-.")
    return f"verdict-{slug}".rstrip("-")


def _withhold_key(url: str, model: str, backbone: str) -> None:
    """Refuse to send a key to an endpoint that only run.json names.

    Raises:
        UserError: a key is set.
    """
    if os.environ.get(API_KEY, "").strip():
        again = f"--endpoint {url} --model {model}" + (
            f" --backbone {backbone}" if backbone else ""
        )
        raise UserError(
            Code.API_KEY_WITHHELD,
            f"{API_KEY} is set, and no key is sent to an endpoint named by run.json alone. Add "
            + one_line(again),
        )
