"""A bundle is taken back as it was saved, or refused in one line."""

import json
import shutil
from hashlib import sha256

import lightgbm as lgb
import numpy as np
import pytest

from arena.feature_table import Column, FeatureTable
from common.errors import Code
from embeddings.cache.tensor_files import write_tensors
from meta.base_models.baselines import Baselines
from meta.base_models.symmetric_logistic import SymmetricLogistic
from meta.calibrators import Identity
from meta.stack import model_io as bundle
from meta.stack.forest import grow
from meta.stack.pool import Pool
from meta.stack.stacker import Stacker
from meta.stack.trained_model import TrainedModel
from tests.helpers.errors import raises

ROWS = 120
COLUMNS = {"style.a": Column("anti", "style"), "style.b": Column("sym", "style")}
BOOSTER, FOREST = "meta/booster-00.txt", f"meta/{bundle.FOREST}"


def design():
    values = np.random.default_rng(0).normal(size=(ROWS, 2)).astype(np.float32)
    return FeatureTable([str(i) for i in range(ROWS)], values, COLUMNS)


@pytest.fixture(scope="module")
def stacker():
    labels = np.arange(ROWS) % 3
    how = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    booster = lgb.train(how, lgb.Dataset(design().values, labels, params={"verbose": -1}), 2)
    forest, _ = grow(design(), labels, np.arange(ROWS) // 2 % 3)
    stages = Identity(), {"none": 1.0}, ROWS
    return Stacker(("style",), tuple(COLUMNS), [booster], [], forest, Pool(0.6, 0.5, 0.1), *stages)


@pytest.fixture
def saved(stacker, tmp_path):
    length = SymmetricLogistic(np.ones(1), np.ones(1), -1.0)
    baselines = Baselines(np.array([0.4, 0.4, 0.2]), length)
    learned = {"hidden": {"layer1.mean/center": np.arange(2.0, dtype=np.float16)}}
    bundle.save(TrainedModel({"meta": stacker}, learned, baselines, {}), tmp_path / "model")
    return tmp_path / "model"


def put(folder, **changes):
    """Change entries of a bundle; its checksum fits."""
    entries = json.loads((folder / "bundle.json").read_text())
    del entries["checksum"]
    for name, change in changes.items():
        entries[name] = change(entries[name])
    (folder / "bundle.json").write_text(json.dumps(bundle.signed(entries)))


def fitting(folder, file):
    """Make the checksum of a file that was changed fit."""
    contents = (folder / file).read_bytes()
    put(folder, sha256=lambda hashes: {**hashes, file: sha256(contents).hexdigest()})


def refused(folder):
    with raises(Code.MODEL_DAMAGED):
        bundle.load(folder)


def test_a_model_predicts_as_before_it_was_saved(stacker, saved):
    again = bundle.load(saved)
    assert np.array_equal(again.meta.predict(design()), stacker.predict(design()))
    assert again.meta.pool == stacker.pool
    assert again.base_models["hidden"]["layer1.mean/center"].dtype == np.float32


def test_a_model_without_a_forest_has_no_file_of_one(stacker, saved):
    boosters = Stacker(**{**vars(stacker), "forest": None})
    model = bundle.load(saved)
    bundle.save(TrainedModel({"meta": boosters}, model.base_models, model.baselines, {}), saved)
    assert not (saved / FOREST).exists()
    assert bundle.load(saved).meta.forest is None


@pytest.mark.parametrize("file", [BOOSTER, FOREST, "learned/hidden.safetensors"])
def test_a_file_that_is_not_the_one_that_was_saved_is_refused(saved, file):
    contents = bytearray((saved / file).read_bytes())
    contents[len(contents) // 2] ^= 1
    (saved / file).write_bytes(contents)
    refused(saved)


@pytest.mark.parametrize("file", [BOOSTER, FOREST, "learned/hidden.safetensors"])
def test_a_file_that_is_gone_is_refused(saved, file):
    (saved / file).unlink()
    refused(saved)


def test_a_forest_that_never_ends_is_refused(stacker, saved):
    arrays = {name: array.copy() for name, array in stacker.forest.arrays().items()}
    arrays["left"][0] = 0
    write_tensors(saved / FOREST, arrays)
    fitting(saved, FOREST)
    refused(saved)


@pytest.mark.parametrize(
    "pool",
    [
        *([], {"tie": "x"}, {"more": 1}),
        *({"boosters": float("nan")}, {"tie": float("-inf")}),
        *({"forest": -0.1}, {"boosters": 1e308}, {"tie": 10**400}),
    ],
    ids=str,
)
def test_a_pool_that_is_none_is_refused(saved, pool):
    def change(fusions):
        fusions["meta"]["pool"] = pool
        return fusions

    put(saved, fusions=change)
    refused(saved)


def test_a_stacker_without_boosters_is_refused(saved):
    put(saved, fusions=lambda fusions: {"meta": {**fusions["meta"], "boosters": []}})
    refused(saved)


@pytest.mark.parametrize("place", ["model/inside", "elsewhere"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_path_that_leaves_the_bundle_is_refused(saved, place, absolute):
    shutil.copytree(saved / "meta", saved.parent / place)
    name = str(saved.parent / place) if absolute else f"../{place}"

    def add(fusions):
        return {**fusions, name: fusions["meta"]}

    def hashed(hashes):
        return {**hashes, f"{name}/{bundle.FOREST}": hashes[FOREST]}

    put(saved, fusions=add, sha256=hashed)
    if place == "elsewhere":
        refused(saved)
    else:
        assert name in bundle.load(saved).stackers


@pytest.mark.parametrize("entry", ["checksum", "sha256"])
def test_a_bundle_without_checksums_is_refused(saved, entry):
    entries = json.loads((saved / "bundle.json").read_text())
    del entries[entry]
    if entry == "sha256":
        del entries["checksum"]
        entries = bundle.signed(entries)
    (saved / "bundle.json").write_text(json.dumps(entries))
    refused(saved)
