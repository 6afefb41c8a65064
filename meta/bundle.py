"""The model on disk: LightGBM's text, JSON and safetensors. Nothing in it can execute.

model/bundle.json                 class order, members, columns, calibrators, nulls
model/probes.safetensors          weights of the hidden states' probes, by fold and slot
model/<fusion>/booster-00.txt     LightGBM's own text format
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from arena.battle import CLASSES
from arena.errors import UserError
from arena.files import read_json, write_json
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
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
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
        (fresh / name).mkdir()
        files = [f"{name}/booster-{i:02}.txt" for i in range(len(fusion.boosters))]
        for file, booster in zip(files, fusion.boosters, strict=True):
            booster.save_model(fresh / file)
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
        save_file(tensors, fresh / "probes.safetensors")
    write_json(fresh / "bundle.json", bundle)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> SecondStage:
    """Read a bundle.

    Raises:
        UserError: it is missing, damaged, or of another format.
    """
    again = "run `python pipelines/train_meta.py` on this run first"
    if not (folder / "bundle.json").exists():
        raise UserError(f"no model in {folder}: {again}")
    try:
        bundle = read_json(folder / "bundle.json")
        if bundle["format"] != FORMAT or tuple(bundle["class_order"]) != CLASSES:
            raise UserError(f"the model in {folder} is of another format: {again}")
        return SecondStage(
            {name: _fusion(folder, entry) for name, entry in bundle["fusions"].items()},
            _probes(folder, bundle["probes"]),
            Nulls(np.array(bundle["prior"]), _logistic(bundle["length"])),
        )
    except (KeyError, TypeError, ValueError, OSError, lgb.basic.LightGBMError, SafetensorError):
        raise UserError(f"the model in {folder} is damaged: {again}") from None


def _logistic(entry: dict[str, Any]) -> SymmetricLogistic:
    return SymmetricLogistic(
        np.array(entry["side"], dtype=np.float32),
        np.array(entry["tie"], dtype=np.float32),
        float(entry["tie_bias"]),
    )


def _fusion(folder: Path, entry: dict[str, Any]) -> Fusion:
    files = [(folder / file).resolve() for file in entry["boosters"]]
    if not all(file.is_relative_to(folder.resolve()) for file in files):
        raise ValueError("a booster's path leaves the bundle")
    return Fusion(
        tuple(entry["views"]),
        tuple(entry["columns"]),
        [lgb.Booster(model_file=file) for file in files],
        entry["params"],
        Calibrator(**entry["calibrator"]),
        entry["calibration"],
    )


def _probes(folder: Path, slots_by_fold: list[list[str]]) -> list[dict[str, Probe]]:
    tensors = load_file(folder / "probes.safetensors") if slots_by_fold else {}

    def probe(fold: int, slot: str) -> Probe:
        part = {k: tensors[f"{fold}/{slot}/{k}"] for k in ("center", "side", "tie", "tie_bias")}
        logistic = SymmetricLogistic(part["side"], part["tie"], float(part["tie_bias"][0]))
        return Probe(part["center"], logistic)

    return [{s: probe(fold, s) for s in slots} for fold, slots in enumerate(slots_by_fold)]
