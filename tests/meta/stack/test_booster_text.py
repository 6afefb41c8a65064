"""A booster's text is what LightGBM writes, or is not given to LightGBM."""

import json
import re
from hashlib import sha256

import lightgbm as lgb
import numpy as np
import pytest

from common.errors import Code
from meta.base_models.baselines import Baselines
from meta.base_models.symmetric_logistic import SymmetricLogistic
from meta.calibrators import Identity
from meta.stack import model_io as bundle
from meta.stack.booster_text import LARGEST, checked
from meta.stack.pool import Pool
from meta.stack.stacker import Stacker
from meta.stack.trained_model import TrainedModel
from tests.helpers.errors import raises

FEATURES = 4
PARAMS = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}


def rows(n=200):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, FEATURES))
    x[::7, 1] = np.nan
    x[::3, 2] = 0
    return x, rng.integers(0, 3, n)


def trained(rounds=2, **params):
    x, y = rows()
    leaves = {"num_leaves": 4, **params}
    return lgb.train({**PARAMS, **leaves}, lgb.Dataset(x, y, params={"verbose": -1}), rounds)


@pytest.fixture(scope="module")
def sound():
    return trained().model_to_string()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"num_leaves": 63, "min_data_in_leaf": 1, "rounds": 30},
        {"min_data_in_leaf": 500},
        {"zero_as_missing": True},
        {"use_missing": False},
    ],
)
def test_what_is_kept_of_a_sound_booster_predicts_and_explains_the_same(params):
    booster, (x, _) = trained(**params), rows()
    text = booster.model_to_string()
    kept = checked(text, FEATURES, 3)
    assert text.startswith(kept)
    assert kept.endswith("end of trees\n")
    again = lgb.Booster(model_str=kept)
    for how in ({}, {"raw_score": True}, {"pred_contrib": True}):
        assert np.array_equal(again.predict(x, **how), booster.predict(x, **how))
    assert checked(kept, FEATURES, 3) == kept


def resized(text):
    """The text with the sizes of the trees that it has."""
    top, trees = text.split("\n\n", 1)
    parts = re.split(r"(?=^Tree=\d+$|^end of trees$)", trees, flags=re.MULTILINE)
    sizes = " ".join(str(len(part)) for part in parts if part.startswith("Tree="))
    return f"{re.sub('tree_sizes=.*', f'tree_sizes={sizes}', top)}\n\n{trees}"


def put(name, value):
    """A change of the first tree's line, or of the header's."""
    return lambda text: resized(re.sub(f"(?m)^{name}=.*$", f"{name}={value}", text, count=1))


DAMAGE = {
    "a child beyond the tree": put("left_child", "-1 -2 99999999"),
    "a leaf beyond the tree": put("right_child", "1 2 -99"),
    "a child that is its parent": put("left_child", "-1 1 -3"),
    "a child that is the root": put("right_child", "1 0 -4"),
    "a child with two parents": put("left_child", "1 -2 -3"),
    "a leaf with two parents": put("left_child", "-1 -1 -3"),
    "a child too few": put("left_child", "-1 -2"),
    "a child too many": put("right_child", "1 2 -4 -1"),
    "a child that is a word": put("left_child", "-1 -2 x"),
    "a number of many digits": put("left_child", "-1 -2 " + "9" * 5000),
    "a feature beyond the columns": put("split_feature", "2 2 4"),
    "a negative feature": put("split_feature", "2 2 -1"),
    "thresholds too few": put("threshold", "0.5"),
    "no thresholds": put("threshold", ""),
    "values too few": put("leaf_value", "1 2 3"),
    "a value that is not finite": put("leaf_value", "1 2 3 nan"),
    "a value that overflows": put("leaf_value", "1 2 3 1e999"),
    "counts too few": put("internal_count", "1 2"),
    "a split by category": put("decision_type", "1 2 2"),
    "a type that is none": put("decision_type", "2 2 14"),
    "categories": put("num_cat", "1"),
    "a linear tree": put("is_linear", "1"),
    "more leaves than there are": put("num_leaves", "5"),
    "no leaves": put("num_leaves", "0"),
    "a negative number of leaves": put("num_leaves", "-4"),
    "leaves without end": put("num_leaves", str(LARGEST + 1)),
    "another line": lambda text: resized(text.replace("shrinkage=1", "shrinkage=1\nx=1", 1)),
    "a line less": lambda text: resized(re.sub("shrinkage=1\n", "", text, count=1)),
    "no sign": lambda text: resized(text.replace("shrinkage=1", "shrinkage", 1)),
    "a size too small": lambda text: re.sub(r"tree_sizes=\d+", "tree_sizes=9", text),
    "a size too large": lambda text: re.sub(r"tree_sizes=\d+", "tree_sizes=9999999", text),
    "a negative size": lambda text: re.sub(r"tree_sizes=\d+", "tree_sizes=-500", text),
    "sizes too few": lambda text: re.sub(r"(tree_sizes=\d+ \d+ \d+).*", r"\1", text),
    "no sizes": lambda text: re.sub("\ntree_sizes=.*", "", text),
    "trees out of order": lambda text: text.replace("Tree=1\n", "Tree=2\n"),
    "a tree too few": lambda text: resized(re.sub(r"(?s)Tree=5\n.*?(?=end of)", "", text)),
    "no trees": lambda text: resized(re.sub(r"(?s)Tree=0\n.*?(?=end of)", "", text)),
    "more classes": put("num_class", "300"),
    "more trees an iteration": put("num_tree_per_iteration", "6"),
    "another objective": put("objective", "multiclass num_class:300"),
    "other features": put("max_feature_idx", "9"),
    "another version": put("version", "v3"),
    "names too few": put("feature_names", "a b"),
    "a line more in the header": lambda text: text.replace("\nlabel", "\naverage_output\nlabel", 1),
    "cut short": lambda text: text[: text.index("end of trees") - 40],
    "no end": lambda text: text[: text.index("end of trees")],
    "nothing": lambda _: "",
    "a zero byte": lambda text: text.replace("shrinkage", "shrink\0ge", 1),
    "line ends of another kind": lambda text: text.replace("\n", "\r\n"),
    "letters that are not ASCII": lambda text: text.replace("Tree=0", "Tree=٠"),
    "a digit that is not ASCII": put("left_child", "-1 -2 -٣"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_booster_is_refused(sound, name):
    changed = DAMAGE[name](sound)
    assert changed != sound
    with pytest.raises(ValueError, match=r"\w"):
        checked(changed, FEATURES, 3)


def test_another_number_of_columns_or_classes_is_refused(sound):
    assert resized(sound) == sound
    for shape in ((FEATURES + 1, 3), (FEATURES, 2)):
        with pytest.raises(ValueError, match="another model"):
            checked(sound, *shape)


@pytest.mark.parametrize("name", ["a child beyond the tree", "a child that is the root"])
def test_a_bundle_that_was_made_to_crash_is_one_line(tmp_path, sound, name):
    columns = tuple(f"style.{i}" for i in range(FEATURES))
    stages = Identity(), {"none": 1.0}, 200
    stacker = Stacker(("style",), columns, [trained()], [], None, Pool(), *stages)
    length = SymmetricLogistic(np.ones(1), np.ones(1), -1.0)
    baselines = Baselines(np.array([0.4, 0.4, 0.2]), length)
    bundle.save(TrainedModel({"meta": stacker}, {}, baselines, {}), tmp_path / "model")
    bundle.load(tmp_path / "model")
    entries = json.loads((tmp_path / "model" / "bundle.json").read_text())
    file = "meta/booster-00.txt"
    text = DAMAGE[name](sound)
    (tmp_path / "model" / file).write_text(text)
    entries["sha256"][file] = sha256(text.encode()).hexdigest()
    del entries["checksum"]
    (tmp_path / "model" / "bundle.json").write_text(json.dumps(bundle.signed(entries)))
    with raises(Code.MODEL_DAMAGED):
        bundle.load(tmp_path / "model")
