"""The model on disk: LightGBM's text, JSON and safetensors. Nothing in it can execute.

model/bundle.json                 class order, members, columns, calibrators, nulls
model/learned/<view>.safetensors  weights of the views that learn
model/<stacker>/booster-00.txt     LightGBM's own text format
model/<stacker>/forest.safetensors where the stacker has a forest
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd

from arena.feature_table import FeatureTable
from arena.schema import CLASSES
from arena.view import KINDS, View, kind_named
from common.errors import Code, UserError
from common.files import atomic, read_json, write_json
from common.run_dir import RunDir
from embeddings.cache.tensor_files import DamagedError, read_tensors, write_tensors
from meta import calibrators
from meta.base_models import BASE_MODELS, Model
from meta.base_models.baselines import Baselines
from meta.base_models.symmetric_logistic import SymmetricLogistic
from meta.stack.booster_text import checked
from meta.stack.dataset import compute_dataset, stored_kinds
from meta.stack.forest import Forest
from meta.stack.pool import Pool
from meta.stack.stacker import Stacker
from meta.stack.trained_model import META, TrainedModel

FORMAT = 5

FOREST = "forest.safetensors"

DAMAGE = (
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError),
    *(OSError, lgb.basic.LightGBMError, DamagedError),
)
"""What reading a damaged bundle may raise."""


def save(model: TrainedModel, folder: Path) -> None:
    """Write the bundle beside ``folder`` and move it into place, replacing an older one."""
    fresh, old = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        _write(model, fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write(model: TrainedModel, folder: Path) -> None:
    bundle: dict[str, Any] = {
        "format": FORMAT,
        "class_order": list(CLASSES),
        "prior": model.baselines.shares.tolist(),
        "length": {part: value.tolist() for part, value in model.baselines.length.arrays().items()},
        "fusions": {},
        "learned": sorted(model.base_models),
        "kinds": {name: kind.name for name, kind in model.kinds.items()},
    }
    for name, stacker in model.stackers.items():
        (folder / name).mkdir()
        files = [f"{name}/booster-{i:02}.txt" for i in range(len(stacker.boosters))]
        for file, booster in zip(files, stacker.boosters, strict=True):
            with atomic(folder / file) as temporary:
                temporary.write_text(booster.model_to_string(), encoding="utf-8")
        bundle["fusions"][name] = {
            "views": list(stacker.views),
            "columns": list(stacker.columns),
            "boosters": files,
            "params": stacker.params,
            "pool": asdict(stacker.pool) if stacker.forest is not None else None,
            "calibrator": stacker.calibrator.to_json(),
            "calibration": stacker.calibration,
            "rows": stacker.rows,
        }
        if stacker.forest is not None:
            write_tensors(folder / name / FOREST, stacker.forest.arrays())
        if stacker.absent:
            bundle["fusions"][name]["absent"] = list(stacker.absent)
    (folder / "learned").mkdir()
    for name, learned in model.base_models.items():
        arrays = {part: np.ascontiguousarray(value) for part, value in learned.items()}
        write_tensors(folder / "learned" / f"{name}.safetensors", arrays)
    files = [file for entry in bundle["fusions"].values() for file in entry["boosters"]]
    files += [f"{name}/{FOREST}" for name, entry in bundle["fusions"].items() if entry["pool"]]
    files += [f"learned/{name}.safetensors" for name in bundle["learned"]]
    bundle["sha256"] = {file: _hash((folder / file).read_bytes()) for file in files}
    write_json(folder / "bundle.json", signed(bundle))


def signed(bundle: dict[str, Any]) -> dict[str, Any]:
    """The entries of a ``bundle.json`` with their checksum.

    It tells damage and not intent: whoever makes a bundle can make its checksum.
    """
    return {**bundle, "checksum": _hash(json.dumps(bundle).encode())}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def load(folder: Path) -> TrainedModel:
    """Read a bundle.

    Raises:
        UserError: it is missing, damaged, or of another format.
    """
    again = "Run `python pipelines/train_meta.py` on this run first."
    old = folder.with_name(f"{folder.name}.old")
    if old.exists() and not folder.exists():
        # A crash fell between the two renames of ``save``.
        folder = old
    if not (folder / "bundle.json").exists():
        raise UserError(Code.MODEL_MISSING, f"There is no model in {folder}. {again}")
    try:
        bundle = read_json(folder / "bundle.json")
        checksum = bundle.pop("checksum")
        if checksum != signed(bundle)["checksum"]:
            raise ValueError("the checksum does not fit")
        hashes = bundle["sha256"]
        if bundle["format"] != FORMAT or tuple(bundle["class_order"]) != CLASSES:
            raise UserError(
                Code.MODEL_FORMAT, f"The model in {folder} is of another format. {again}"
            )
        if META not in bundle["fusions"]:
            raise ValueError("the stacker of all views is missing")
        length = {part: np.array(value) for part, value in bundle["length"].items()}
        return TrainedModel(
            {
                name: _stacker(folder, name, entry, hashes)
                for name, entry in bundle["fusions"].items()
            },
            {name: _learned(folder, name, hashes) for name in bundle["learned"]},
            Baselines(np.array(bundle["prior"]), SymmetricLogistic.of(length)),
            # A model of before kinds were written.
            {name: kind_named(kind) for name, kind in bundle.get("kinds", {}).items()},
        )
    except DAMAGE:
        raise UserError(Code.MODEL_DAMAGED, f"The model in {folder} is damaged. {again}") from None


def _stacker(folder: Path, name: str, entry: dict[str, Any], hashes: dict[str, str]) -> Stacker:
    columns = tuple(entry["columns"])
    texts = [_checked_bytes(folder, file, hashes).decode() for file in entry["boosters"]]
    trees = [checked(text, len(columns), len(CLASSES)) for text in texts]
    if not trees:
        raise ValueError("a stacker without boosters")
    forest, pool = None, Pool()
    if entry["pool"] is not None:
        _checked_bytes(folder, f"{name}/{FOREST}", hashes)
        tensors = read_tensors(folder / name / FOREST)[0]
        forest = Forest.of({n: tensor.numpy() for n, tensor in tensors.items()}, len(columns))
        pool = Pool.of(entry["pool"])
    return Stacker(
        tuple(entry["views"]),
        columns,
        [lgb.Booster(model_str=text) for text in trees],
        entry["params"],
        forest,
        pool,
        calibrators.from_json(entry["calibrator"]),
        entry["calibration"],
        entry["rows"],
        _absent(entry),
    )


def _checked_bytes(folder: Path, file: str, hashes: dict[str, str]) -> bytes:
    """A file of the bundle, if it is the one that was written with it."""
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{file} is outside the bundle")
    contents = path.read_bytes()
    if hashes[file] != _hash(contents):
        raise ValueError(f"the checksum of {file} does not fit")
    return contents


def _absent(entry: dict[str, Any]) -> tuple[int, ...]:
    """The classes that no training vote was for; an entry that names none has votes for all."""
    absent = entry.get("absent", [])
    if not (isinstance(absent, list) and all(c in range(len(CLASSES)) for c in absent)):
        raise ValueError("a class that is none")
    return tuple(int(c) for c in absent)


def _learned(folder: Path, name: str, hashes: dict[str, str]) -> Model:
    if name not in BASE_MODELS:
        raise ValueError(f"{name} is no view that learns")
    _checked_bytes(folder, f"learned/{name}.safetensors", hashes)
    tensors = read_tensors(folder / "learned" / f"{name}.safetensors")[0]
    arrays = {part: tensor.numpy() for part, tensor in tensors.items()}
    # Half precision is for the disk: a million weights take milliseconds to convert.
    return {p: a.astype(np.float32) if a.dtype == np.float16 else a for p, a in arrays.items()}


class TrainedBaseModel(View):
    """A view that a run's base model gives, as an object."""

    def __init__(self, run: RunDir, name: str, shared: dict[Any, Any]) -> None:
        """The arguments are those of :meth:`of_run`."""
        self.name, self.kind = name, kind_named(name)
        self._run, self._shared = run, shared

    @classmethod
    def of_run(cls, run: RunDir, name: str, shared: dict[Any, Any]) -> TrainedBaseModel:
        """The view of a run's trained model."""
        return cls(run, name, shared)

    def transform(self, battles: pd.DataFrame) -> FeatureTable:
        """What the fit on all training battles says of others."""
        model = shared_model(self._run, self._shared)
        needed = {name: kind for name, kind in model.kinds.items() if not kind.sees_votes}
        needed = needed if BASE_MODELS[self.name].of_views else {}
        dataset = compute_dataset(
            self._run, battles, {**needed, self.name: self.kind}, self._shared
        )
        return dataset.unseen(model.base_models)[self.name]


def shared_model(run: RunDir, shared: dict[Any, Any]) -> TrainedModel:
    """The trained model of a run, read once.

    Raises:
        UserError: it is missing or damaged, or the kind of a view is not known.
    """
    key = "trained model", run.folder
    if key not in shared:
        model = load(run.model)
        kinds = model.kinds or {**KINDS, **stored_kinds(run, "train")}
        if unknown := ", ".join(view for view in model.views if view not in kinds):
            raise UserError(
                Code.VIEW_KIND_UNKNOWN,
                f"The model in {run.model} does not say of which kind its views are: {unknown}. "
                f"Rerun `python pipelines/train_meta.py --run {run.folder}`.",
            )
        shared[key] = replace(model, kinds={view: kinds[view] for view in model.views})
    model = shared[key]
    assert isinstance(model, TrainedModel)
    return model
