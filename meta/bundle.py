"""The model on disk: LightGBM's text, JSON and safetensors. Nothing in it can execute.

model/bundle.json                 class order, members, columns, calibrators, nulls
model/learned/<view>.safetensors  weights of the views that learn, by fold
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
from meta.learned import LEARNED, Model
from meta.logistic import SymmetricLogistic
from meta.nulls import Nulls
from meta.stage import SecondStage

FORMAT = 3


def save(stage: SecondStage, folder: Path) -> None:
    """Write the bundle beside ``folder`` and move it into place, replacing an older one."""
    fresh, old = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    bundle: dict[str, Any] = {
        "format": FORMAT,
        "class_order": list(CLASSES),
        "prior": stage.nulls.shares.tolist(),
        "length": {part: value.tolist() for part, value in stage.nulls.length.arrays().items()},
        "fusions": {},
        "learned": {name: len(models) for name, models in stage.learned.items()},
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
    (fresh / "learned").mkdir()
    for name, models in stage.learned.items():
        arrays = {
            f"{fold}/{part}": np.ascontiguousarray(value)
            for fold, model in enumerate(models)
            for part, value in model.items()
        }
        save_file(arrays, fresh / "learned" / f"{name}.safetensors")
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
        length = {part: np.array(value) for part, value in bundle["length"].items()}
        return SecondStage(
            {name: _fusion(folder, entry) for name, entry in bundle["fusions"].items()},
            {name: _models(folder, name, n) for name, n in bundle["learned"].items()},
            Nulls(np.array(bundle["prior"]), SymmetricLogistic.of(length)),
        )
    except (LookupError, TypeError, ValueError, OSError, lgb.basic.LightGBMError, SafetensorError):
        raise UserError(f"the model in {folder} is damaged: {again}") from None


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


def _models(folder: Path, name: str, count: int) -> list[Model]:
    if name not in LEARNED:
        raise ValueError(f"{name} is no view that learns")
    models: list[Model] = [{} for _ in range(count)]
    for key, value in load_file(folder / "learned" / f"{name}.safetensors").items():
        fold, _, part = key.partition("/")
        models[int(fold)][part] = value
    return models
