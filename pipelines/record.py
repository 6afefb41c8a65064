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

from arena.intake import Intake
from arena.run import Run
from embeddings.config import BackboneConfig

DEFAULT_BACKBONE = "smollm2-135m"
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
    run: Run,
    arguments: argparse.Namespace,
    files: dict[str, str],
    taken: dict[str, Intake],
    config: BackboneConfig,
    runner: str,
) -> None:
    """Write what was asked, of what, by which code, into ``run.json``."""
    before = run.read_record().get("backbone", {}).get("asked", DEFAULT_BACKBONE)
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
            "asked": str(arguments.backbone or before),
            "quantization": config.quantization,
            "engine": runner,
            "config": as_json(config),
        },
        code=code(),
        versions={"python": platform.python_version(), **{p: version(p) for p in VERSIONS}},
    )


def costs_before(record: dict[str, Any], run: Run, split: str) -> dict[str, Any]:
    """What an earlier call took for a split; nothing where it had other battles or models.

    A call that finds all done must not hide what it took.

    Args:
        record: of the run, before this call.
        run: the run, whose record now has what is asked.
        split: which battles.
    """
    now = run.read_record()
    contents = [found.get("inputs", {}).get(split, {}).get("sha256") for found in (record, now)]
    same = contents[0] == contents[1] and record.get("backbone") == now["backbone"]
    return {key: record.get(key, {}) for key in ("seconds", "peak_mib")} if same else {}


def record_costs(run: Run, costs: dict[str, dict[str, float]], before: dict[str, Any]) -> None:
    """Write what a call took, where an earlier one did not take more.

    Args:
        run: the run.
        costs: ``seconds`` and ``peak_mib`` by step.
        before: of ``costs_before``.
    """
    run.update_record(
        **{
            kind: {key: max(cost, before.get(kind, {}).get(key, 0)) for key, cost in of.items()}
            for kind, of in costs.items()
        }
    )
