"""What ``run.json`` keeps of an extraction: what was asked, by which code, and its cost."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from arena.ingest import IngestSummary
from common.run_dir import RunDir
from embeddings.backbone.config import BackboneConfig

VERSIONS = ("torch", "transformers", "bitsandbytes", "lightgbm", "scikit-learn", "optuna")


def as_json(config: BackboneConfig) -> Any:
    """A configuration as ``run.json`` gives it back."""
    return json.loads(json.dumps(asdict(config)))


def code() -> str:
    """Hash of the project's own sources, by which a run can be traced to what made it."""
    root = Path(__file__).resolve().parents[1]
    h = hashlib.sha256()
    for room in ("arena", "features", "embeddings", "meta", "pipelines"):
        for path in sorted((root / room).rglob("*.py")):
            h.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return h.hexdigest()[:16]


def record_inputs(
    run: RunDir,
    arguments: argparse.Namespace,
    files: dict[str, str],
    taken: dict[str, IngestSummary],
    config: BackboneConfig,
    runner: str,
    asked: str,
) -> None:
    """Write what was asked, of what, by which code, into ``run.json``."""
    run.update_record(
        inputs={
            s: {
                "file": f,
                "rows": taken[s].rows,
                "sha256": taken[s].content,
                "sample": not getattr(arguments, s),
            }
            for s, f in files.items()
        },
        backbone={
            "asked": asked,
            "quantization": config.quantization,
            "engine": runner,
            "config": as_json(config),
        },
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
    return len(set(contents)) == 1 and bool(before.get("backbone") == now["backbone"])


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
