"""Stage one, without training: which letter a language model would say, A, B or C for a tie.

    python pipelines/verdict.py                                         the sample
    python pipelines/verdict.py --run runs/lmsys --backbone gemma2-9b --quantization nf4 --dry-run
    python pipelines/verdict.py --run runs/lmsys --endpoint http://box:8000 --model qwen2-72b
    python pipelines/verdict.py --run runs/lmsys --view verdict-qwen2-72b    after extract.py --test

Works on the battles of a run that extract.py made, and writes one view whose name begins with
"verdict". No vote is seen. The model is a local backbone, or behind any OpenAI-compatible
completions endpoint that gives logprobs (a vLLM or llama.cpp server); its key, if it needs one,
stands in the environment variable TIEBREAK_API_KEY. With an endpoint, --backbone names the model's
tokenizer and chat template, and token ids are sent; without it plain text is sent, in which what
looks like a special token is broken up.

What is not given is taken from the run's last verdict of that view. Killed at any moment, the same
command goes on; what is answered is never asked again.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd

from arena.battle_table import texts_hash
from arena.feature_table import FeatureTable
from arena.predictions_file import from_log_odds
from common.errors import Code, UserError
from common.lock import run_lock
from common.run_dir import RunDir
from embeddings.backbone.config import BackboneConfig, finetune_entries, load_config
from embeddings.backbone.quantization import QUANTIZATIONS
from embeddings.cache.shards import settings_hash
from embeddings.frozen.costs import memory_lines
from embeddings.frozen.extract import warn_non_finite
from embeddings.frozen.plan import counting_tokenizer
from embeddings.judge.config import JudgeConfig
from embeddings.prompts.pairs import distinct
from embeddings.view_kinds import VERDICT
from embeddings.zero_shot.endpoint import Endpoint
from embeddings.zero_shot.http_client import API_KEY, one_line
from embeddings.zero_shot.judge import verdict_view
from embeddings.zero_shot.view import ZeroShotVerdict
from meta.metrics.scores import log_loss
from pipelines.finetune import read_sound
from tiebreak.run_record import DEFAULT_BACKBONE, as_json, chosen_backbone, record_costs

VIEW = re.compile(r"verdict(-[\w.-]+)?")

HOW = {"top_logprobs": 20, "concurrency": 4, "timeout": 300, "attempts": 8}
"""How an endpoint is asked, where nothing else is said."""
from pipelines import cli


@dataclass(frozen=True)
class VerdictOptions:
    """What is to be done, resolved: given, else as the last time, else the default."""

    view: str
    backbone: str
    """As it was asked for; empty where an endpoint gets plain text."""
    config: BackboneConfig | None
    endpoint: Endpoint | None
    max_tokens: int

    def record(self) -> dict[str, Any]:
        """The entry in run.json from which the next call starts."""
        quantization = self.config.quantization if self.config else None
        where = self.endpoint
        config = {"config": as_json(self.config)} if self.config else {}
        return {
            "backbone": {"asked": self.backbone, "quantization": quantization, **config},
            "endpoint": asdict(where) if where else None,
            "max_tokens": self.max_tokens,
        }


def resolve(arguments: argparse.Namespace, record: dict[str, Any]) -> VerdictOptions:
    """Find out what is asked.

    Raises:
        UserError: a name, backbone or endpoint is not sound, or the run's endpoint would get a key.
    """
    views, given = record.get("verdict", {}), vars(arguments)
    url, model, asked = arguments.endpoint, arguments.model, arguments.backbone
    if bool(url) != bool(model):
        raise UserError(
            Code.OPTIONS_CONFLICT,
            "--endpoint URL needs --model NAME, as the server calls it, and the other way round.",
        )
    view = arguments.view
    if not view:
        title = (
            model.rsplit("/", 1)[-1]
            if url
            else chosen_backbone(arguments.backbone, arguments.quantization, record)[1].name
        )
        slug = re.sub(r"[^\w.]+", "-", title).strip("-.")
        view = f"verdict-{slug}".rstrip("-")
    if not VIEW.fullmatch(view):
        raise UserError(Code.OPTION_INVALID, f"--view {view}: the name must begin with verdict.")
    before = views.get(view, {})
    old = before.get("endpoint") or {}
    if old and not (url or asked):
        url, model = old["url"], old["model"]
        if os.environ.get(API_KEY, "").strip():
            kept = before["backbone"]["asked"]
            again = f"--endpoint {url} --model {model}" + (f" --backbone {kept}" if kept else "")
            raise UserError(
                Code.API_KEY_WITHHELD,
                f"{API_KEY} is set, and no key is sent to an endpoint named by run.json alone. Add "
                + one_line(again),
            )
    if url:
        if arguments.quantization:
            raise UserError(
                Code.OPTIONS_CONFLICT, "--quantization is for a local model, not for an --endpoint."
            )
        # The tokenizer of before is that of the model of before.
        asked = asked or (before["backbone"]["asked"] if old.get("model") == model else "")
        config = load_config(asked) if asked else None
    else:
        known = before if before and not old else record
        _, config = chosen_backbone(arguments.backbone, arguments.quantization, known)
        asked = asked or known.get("backbone", {}).get("asked", DEFAULT_BACKBONE)
    recipe = JudgeConfig.of(finetune_entries(asked) if asked else {})
    same = asked == before.get("backbone", {}).get("asked")
    max_tokens = given.get("max_tokens", before["max_tokens"] if same else recipe.longest)
    endpoint = None
    if url:
        how = {name: given.get(name, old.get(name, value)) for name, value in HOW.items()}
        endpoint = Endpoint.of(url, model, **how)
    return VerdictOptions(view, asked, config, endpoint, max_tokens)


def plan(tables: dict[str, pd.DataFrame], asked: VerdictOptions) -> list[str]:
    """What the verdict will cost; a stand-in counts where the backbone's tokenizer is missing."""
    view = ZeroShotVerdict(asked.view, asked.config, asked.endpoint, asked.max_tokens, None)
    tokenizer, note = counting_tokenizer(asked.config) if asked.config else (None, "")
    packed = {split: view.pack(table, tokenizer) for split, table in tables.items()}
    questions = distinct(*packed.values())
    total, longest = sum(len(s.ids) for s in questions), max(map(len, (s.ids for s in questions)))
    unit = "tokens" if asked.config else "characters"
    cut = np.concatenate([table.cut for table in packed.values()])
    lines = [
        f"  battles {len(cut):,}, distinct questions in both orders {len(questions):,}, {unit} "
        f"{total:,} (longest {longest:,}); truncated {(cut > 0).mean():.1%}"
    ]
    if asked.endpoint is not None:
        lines.append(
            f"  {len(questions):,} requests of one answered token each to {asked.endpoint.url}, "
            f"{asked.endpoint.concurrency} at a time, less those that are answered already"
        )
    elif view.config is not None:
        lines += memory_lines(longest, view.config)
    return [*([note] if note else []), *lines]


def ask(
    tables: dict[str, pd.DataFrame], asked: VerdictOptions, folder: Path
) -> dict[str, FeatureTable]:
    """The view of every split; prints how much of the probability the letters hold."""
    view = ZeroShotVerdict(asked.view, asked.config, asked.endpoint, asked.max_tokens, folder)
    tokenizer = view.tokenizer()
    packed = {split: view.pack(table, tokenizer) for split, table in tables.items()}
    questions = list(packed.values())
    said = view.query(questions)
    mass = np.exp(np.concatenate(said)).sum(axis=1)
    if np.isfinite(mass).any():
        mean = mass[np.isfinite(mass)].mean()
        print(f"A, B and C hold {mean:.1%} of the next token's probability in the mean")
    views = map(verdict_view, questions, said)
    return dict(zip(packed, views, strict=True))


def main(arguments: argparse.Namespace) -> None:
    """Plan, or ask and write the view."""
    run = RunDir(Path(arguments.run))
    tables = read_sound(run)
    asked = resolve(arguments, run.read_record())
    config, endpoint = asked.config, asked.endpoint
    if endpoint is not None:
        text = f"tokens of {config.name}" if config else "plain text"
        how = " ".join(f"{name}={getattr(endpoint, name)}" for name in HOW)
        source = f"model {endpoint.model} at {endpoint.url}, {text}, {how}"
    else:
        assert config is not None
        source = f"backbone {config.name}, {config.quantization}, {config.dtype}"
    print(f"view {asked.view}: {source} max_tokens={asked.max_tokens}", flush=True)
    if arguments.dry_run:
        print("\n".join(plan(tables, asked)))
        return
    answers = run.folder / "verdict"
    answers.mkdir(exist_ok=True)
    with run.reading("verdict.py"), run_lock(answers, "verdict.py"):
        answer(run, tables, asked, answers)


def answer(
    run: RunDir, tables: dict[str, pd.DataFrame], asked: VerdictOptions, folder: Path
) -> None:
    """Ask what is not answered yet, write the view, say what it is worth."""
    start = time.monotonic()
    found = ask(tables, asked, folder)
    source = source_of(asked.record())
    for split, view in found.items():
        warn_non_finite(split, view.ids, np.isnan(view.values[:, 0]), asked.view)
        path = run.views / asked.view / f"{split}.parquet"
        view.write(path, texts_hash(tables[split]), source, VERDICT.name)
    same = run.read_record().get("verdict", {}).get(asked.view) == asked.record()
    run.update_record(verdict={asked.view: asked.record()})
    record_costs(run, same, seconds={asked.view: round(time.monotonic() - start, 3)})
    print_metrics(found["train"], tables["train"]["label"].to_numpy(dtype=np.int64))
    print(
        f"view in {run.views / asked.view}; next: python pipelines/train_meta.py --run {run.folder}"
    )


def source_of(record: dict[str, Any]) -> str:
    """Hash of what makes the view, as of before the record held the backbone's configuration."""
    backbone = {name: record["backbone"][name] for name in ("asked", "quantization")}
    return settings_hash({**record, "backbone": backbone})


def print_metrics(view: FeatureTable, labels: np.ndarray) -> None:
    """Print figures of the battles that have a verdict; ``labels`` int (n,)."""
    sound = ~np.isnan(view.values[:, 0])
    if not sound.any():
        return
    values, labels = view.frame()[sound], labels[sound]
    probabilities = from_log_odds(values["side"].to_numpy(), values["tie"].to_numpy())
    print(
        f"log loss of this verdict alone, uncalibrated, on {len(labels):,} battles: "
        f"{log_loss(probabilities, labels):.4f} (uniform {np.log(3):.4f}); where an answer stands "
        f"moves its log-odds by {values['absposition'].mean():.2f} in the mean, what it says by "
        f"{values['absside'].mean():.2f}"
    )


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument(
        "--backbone",
        metavar="B",
        help=f"as for extract.py (the run's own, or {DEFAULT_BACKBONE}); with --endpoint: whose "
        "tokenizer and chat template the model there has (none: plain text)",
    )
    p.add_argument("--quantization", choices=tuple(QUANTIZATIONS), help="overrides the YAML")
    p.add_argument("--endpoint", metavar="URL", help="of the API, such as http://localhost:8000/v1")
    p.add_argument("--model", metavar="NAME", help="the model at the endpoint")
    p.add_argument("--view", metavar="NAME", help="name of the view (verdict-<backbone or model>)")
    p.add_argument("--dry-run", action="store_true", help="print the plan and its cost, do nothing")

    # What is not given stays out of the namespace: the view's last verdict speaks then.
    def add(name: str, default: object, what: str) -> None:
        p.add_argument(
            f"--{name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            metavar="N",
            type=cli.positive,
            help=f"{what} (the view's last, else {default})",
        )

    add(
        *("max_tokens", "as the backbone is fine-tuned, or 1024"),
        "most tokens of prompt and both answers; of plain text, 3 characters count as one",
    )
    of_endpoint = {
        "top_logprobs": "likeliest tokens to ask for; servers have a limit",
        "concurrency": "most requests under way at any moment",
        "timeout": "seconds without an answer after which a request has failed",
        "attempts": "how often in a row a request may fail",
    }
    for name, what in of_endpoint.items():
        add(name, HOW[name], f"endpoint: {what}")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
