"""What ``run.json`` keeps of an extraction: what was asked, by which code, and its cost."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from arena import sample
from arena.ingest import IngestSummary
from common.run_dir import RunDir
from embeddings.backbone.config import BackboneConfig, load_config

DEFAULT_BACKBONE = "smollm2-135m"

VERSIONS = ("torch", "transformers", "bitsandbytes", "lightgbm", "scikit-learn", "optuna")


NEWER = {"attention": "", "state_bits": 16}
"""Fields of a backbone that older runs lack, and what they read with."""


def as_json(config: BackboneConfig) -> Any:
    """A configuration as ``run.json`` gives it back, without ``NEWER`` defaults."""
    entries = json.loads(json.dumps(asdict(config)))
    return {name: value for name, value in entries.items() if (name, value) not in NEWER.items()}


def code() -> str:
    """Hash of the project's own sources, by which a run can be traced to what made it."""
    root = Path(__file__).resolve().parents[1]
    h = hashlib.sha256()
    for room in ("common", "arena", "features", "embeddings", "meta", "tiebreak", "pipelines"):
        for path in sorted((root / room).rglob("*.py")):
            h.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return h.hexdigest()[:16]


def chosen_backbone(
    name: str | None,
    quantization: str | None,
    record: Mapping[str, Any],
    dtype: str | None = None,
    state_bits: int | None = None,
    unconditional_tokens: int | None = None,
) -> tuple[str, BackboneConfig]:
    """The backbone of a command: the one that is named, else the run's own, else the default.

    Args:
        name: as for ``embeddings.backbone.config.load_config``; ``None``: none is named.
        quantization: overrides the backbone's own; ``None``: the run's where the backbone is the
            same.
        record: the run's record, or an entry of it that holds ``backbone``.
        dtype: as ``quantization``.
        state_bits: overrides the backbone's own.
        unconditional_tokens: likewise.

    Returns:
        Its name as it was given, and its configuration.

    Raises:
        UserError: its configuration is not valid.
    """
    own = record.get("backbone", {})
    chosen = name or own.get("asked", DEFAULT_BACKBONE)
    if quantization is None and chosen == own.get("asked"):
        quantization = own["quantization"]
    if dtype is None and chosen == own.get("asked"):
        dtype = own.get("dtype")
    return chosen, load_config(chosen, quantization, dtype, state_bits, unconditional_tokens)


def record_inputs(
    run: RunDir,
    summaries: Mapping[str, IngestSummary],
    sources: Mapping[str, str],
    backbone: dict[str, Any] | None,
) -> None:
    """Write into ``run.json`` what is extracted, by which backbone and by which code.

    Args:
        run: the run.
        summaries: what each split's file holds.
        sources: path or URL of that file.
        backbone: ``asked``, its name as it was given, ``quantization``, ``engine``, ``config``;
            ``None`` where no language model reads.
    """
    shipped = {"train": str(sample.TRAIN), "test": str(sample.TEST)}
    run.update_record(
        inputs={
            split: {
                "file": sources[split],
                "rows": summary.rows,
                "sha256": summary.content,
                "layout": summary.layout,
                "sample": sources[split] == shipped[split],
            }
            for split, summary in summaries.items()
        },
        **({"backbone": backbone} if backbone else {}),
        code=code(),
        versions={"python": platform.python_version(), **{p: version(p) for p in VERSIONS}},
    )


def asked_before(before: dict[str, Any], now: dict[str, Any], split: str) -> bool:
    """Whether an earlier call read the same battles of a split with the same backbone.

    Args:
        before: the run's record before this call.
        now: the record that has what is asked.
        split: which battles.
    """
    contents = [found.get("inputs", {}).get(split, {}).get("sha256") for found in (before, now)]
    return len(set(contents)) == 1 and bool(before.get("backbone") == now.get("backbone"))


def record_costs(run: RunDir, same: bool, **costs: dict[str, float]) -> None:
    """Write what a call took; where an earlier one was the same and took more, that stays.

    A call that finds all done must not hide what it took.

    Args:
        run: the run.
        same: whether the costs in its record are of the same work.
        costs: ``seconds`` and ``peak_mib`` by step.
    """
    before = run.read_record() if same else {}
    run.update_record(
        **{
            kind: {step: max(cost, before.get(kind, {}).get(step, 0)) for step, cost in of.items()}
            for kind, of in costs.items()
        }
    )
