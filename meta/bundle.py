"""The model on disk: LightGBM's text, JSON and safetensors. Nothing in it can execute.

model/bundle.json                 class order, members, columns, calibrators, nulls
model/probes.safetensors          weights of the hidden states' probes, by fold and slot
model/<fusion>/booster-00.txt     LightGBM's own text format
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

from arena.battle import CLASSES
from arena.errors import UserError
from arena.files import atomic, read_json, write_json
from embeddings.tensors import DamagedError, read_tensors, write_tensors
from meta.calibrate import Calibrator
from meta.fusion import Fusion
from meta.logistic import SymmetricLogistic
from meta.nulls import Nulls
from meta.probes import Probe
from meta.stage import SecondStage

FORMAT = 2


def save(stage: SecondStage, folder: Path) -> None:
    """Write the bundle beside ``folder`` and move it into place, replacing an older one."""
    fresh, old = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        _write(stage, fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write(stage: SecondStage, folder: Path) -> None:
    length = stage.nulls.length
    bundle: dict[str, Any] = {
        "format": FORMAT,
        "class_order": list(CLASSES),
        "prior": stage.nulls.shares.tolist(),
        "length": {
            "side": length.side.tolist(),
            "tie": length.tie.tolist(),
            "tie_bias": length.tie_bias,
        },
        "fusions": {},
        "probes": [list(probes) for probes in stage.probes],
    }
    for name, fusion in stage.fusions.items():
        (folder / name).mkdir()
        files = [f"{name}/booster-{i:02}.txt" for i in range(len(fusion.boosters))]
        for file, booster in zip(files, fusion.boosters, strict=True):
            with atomic(folder / file) as temporary:
                temporary.write_text(booster.model_to_string(), encoding="utf-8")
        bundle["fusions"][name] = {
            "views": list(fusion.views),
            "columns": list(fusion.columns),
            "boosters": files,
            "params": fusion.params,
            "calibrator": asdict(fusion.calibrator),
            "calibration": fusion.calibration,
        }
    tensors: dict[str, np.ndarray] = {}
    for fold, probes in enumerate(stage.probes):
        for slot, probe in probes.items():
            for part, value in (
                ("center", probe.center),
                ("side", probe.logistic.side),
                ("tie", probe.logistic.tie),
                ("tie_bias", np.array([probe.logistic.tie_bias])),
            ):
                tensors[f"{fold}/{slot}/{part}"] = np.ascontiguousarray(value)
    if tensors:
        write_tensors(folder / "probes.safetensors", tensors)
    boosters = [file for entry in bundle["fusions"].values() for file in entry["boosters"]]
    bundle["sha256"] = {file: _hash((folder / file).read_bytes()) for file in boosters}
    bundle["checksum"] = _hash(json.dumps(bundle).encode())
    write_json(folder / "bundle.json", bundle)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def load(folder: Path) -> SecondStage:
    """Read a bundle.

    Raises:
        UserError: it is missing, damaged, or of another format.
    """
    again = "run `python pipelines/train_meta.py` on this run first"
    if not folder.exists():
        # A crash fell between the two renames of ``save``.
        folder = folder.with_name(f"{folder.name}.old")
    if not (folder / "bundle.json").exists():
        raise UserError(f"no model in {folder}: {again}")
    try:
        bundle = read_json(folder / "bundle.json")
        # Bundles of before have no checksums.
        checksum = bundle.pop("checksum", None)
        if checksum is not None and checksum != _hash(json.dumps(bundle).encode()):
            raise ValueError("the checksum does not fit")
        hashes = bundle.get("sha256", {})
        if bundle["format"] != FORMAT or tuple(bundle["class_order"]) != CLASSES:
            raise UserError(f"the model in {folder} is of another format: {again}")
        return SecondStage(
            {name: _fusion(folder, entry, hashes) for name, entry in bundle["fusions"].items()},
            _probes(folder, bundle["probes"]),
            Nulls(np.array(bundle["prior"]), _logistic(bundle["length"])),
        )
    except (KeyError, TypeError, ValueError, OSError, lgb.basic.LightGBMError, DamagedError):
        raise UserError(f"the model in {folder} is damaged: {again}") from None


def _logistic(entry: dict[str, Any]) -> SymmetricLogistic:
    return SymmetricLogistic(
        np.array(entry["side"], dtype=np.float32),
        np.array(entry["tie"], dtype=np.float32),
        float(entry["tie_bias"]),
    )


def _fusion(folder: Path, entry: dict[str, Any], hashes: dict[str, str]) -> Fusion:
    files = [(folder / file).resolve() for file in entry["boosters"]]
    if not all(file.is_relative_to(folder.resolve()) for file in files):
        raise ValueError("a booster's path leaves the bundle")
    texts = [file.read_bytes() for file in files]
    for file, text in zip(entry["boosters"], texts, strict=True):
        if hashes and hashes[file] != _hash(text):
            raise ValueError(f"the checksum of {file} does not fit")
    return Fusion(
        tuple(entry["views"]),
        tuple(entry["columns"]),
        [lgb.Booster(model_str=text.decode()) for text in texts],
        entry["params"],
        Calibrator(**entry["calibrator"]),
        entry["calibration"],
    )


def _probes(folder: Path, slots_by_fold: list[list[str]]) -> list[dict[str, Probe]]:
    read = read_tensors(folder / "probes.safetensors")[0] if slots_by_fold else {}
    tensors = {name: tensor.numpy() for name, tensor in read.items()}

    def probe(fold: int, slot: str) -> Probe:
        part = {k: tensors[f"{fold}/{slot}/{k}"] for k in ("center", "side", "tie", "tie_bias")}
        logistic = SymmetricLogistic(part["side"], part["tie"], float(part["tie_bias"][0]))
        return Probe(part["center"], logistic)

    return [{s: probe(fold, s) for s in slots} for fold, slots in enumerate(slots_by_fold)]
