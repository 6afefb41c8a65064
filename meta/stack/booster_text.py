"""LightGBM's text format, checked before LightGBM reads it.

Its reader trusts the text: a child beyond the arrays crashes the process, one that points back at
its parent makes an endless loop. So an untrusted text is compared here with what LightGBM 4.7
writes of numerical splits (``GBDT::SaveModelToString``, ``Tree::ToString``), and what follows the
trees (importances, parameters of the training), which no prediction needs, is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

HEADER = (
    *("version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx"),
    *("objective", "feature_names", "feature_infos", "tree_sizes"),
)
INNER = ("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child")
LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
INTERNAL = ("internal_value", "internal_weight", "internal_count")
TREE = ("num_leaves", "num_cat", *INNER, *LEAVES, *INTERNAL, "is_linear", "shrinkage")
"""Lines of a tree, in this order. Of n leaves, each array of ``INNER`` and ``INTERNAL`` has n - 1
values and each of ``LEAVES`` n."""

WHOLE = {"split_feature", "decision_type", "left_child", "right_child", "leaf_count"}
WHOLE |= {"internal_count"}

END = "end of trees"

LARGEST = 1024
"""Leaves of a tree; the search goes to 63. An explanation walks down a tree by recursion."""

DECISIONS = {2 * left + 4 * missing for left in (0, 1) for missing in (0, 1, 2)}
"""Numerical splits: which side is the default, and what counts as missing (nothing, 0, NaN)."""

INTEGER = r"-?\d{1,10}"
NUMBER = r"-?(?:\d+(?:\.\d*)?(?:e[-+]?\d{1,3})?|inf|nan)"


def checked(text: str, features: int, classes: int) -> str:
    """The header and the trees of a valid booster, as they are in its text.

    Args:
        text: ``Booster.model_to_string()``, or what claims to be one.
        features: columns that it must read.
        classes: of its multiclass objective, one tree each an iteration.

    Raises:
        ValueError: LightGBM would not write such a text, or only with splits by category or with
            linear trees.
    """
    if not text.isascii() or "\0" in text or "\r" in text:
        raise ValueError("the text is not that of a booster")
    top, _, _ = text.partition("\n\n")
    name, *lines = top.split("\n")
    header = _entries(lines, HEADER)
    expected = {
        "version": "v4",
        "num_class": str(classes),
        "num_tree_per_iteration": str(classes),
        "label_index": "0",
        "max_feature_idx": str(features - 1),
        "objective": f"multiclass num_class:{classes}",
    }
    if name != "tree" or any(header[key] != value for key, value in expected.items()):
        raise ValueError("the header is of another model")
    if any(len(header[key].split(" ")) != features for key in ("feature_names", "feature_infos")):
        raise ValueError("the header names another number of features")
    count = header["tree_sizes"].count(" ") + 1
    sizes = _array(header["tree_sizes"], count, INTEGER)
    if count % classes:
        raise ValueError(f"{count} trees are not a whole number of iterations")
    place = len(top) + 2
    for number, size in enumerate(map(int, sizes)):
        block = text[place : place + size]
        opening, closing = f"Tree={number}\n", "\n\n\n"
        if size < 0 or len(block) != size or not block.startswith(opening):
            raise ValueError(f"tree {number} is not where the header says")
        if not block.endswith(closing):
            raise ValueError(f"tree {number} is not where the header says")
        _check(_entries(block[len(opening) : -len(closing)].split("\n"), TREE), features)
        place += size
    if not text.startswith(f"{END}\n", place):
        raise ValueError("more follows the last tree")
    return f"{text[:place]}{END}\n"


def _entries(lines: list[str], names: tuple[str, ...]) -> dict[str, str]:
    """What stands behind ``name=`` on each line; the lines must be those of ``names``."""
    pairs = [line.partition("=") for line in lines]
    if tuple(name for name, sign, _ in pairs if sign) != names or len(pairs) != len(names):
        raise ValueError(f"the lines are not {', '.join(names)}")
    return {name: value for name, _, value in pairs}


def _array(value: str, count: int, kind: str) -> list[str]:
    """The ``count`` numbers of a line."""
    values = value.split(" ") if value else []
    if len(values) != count or (values and not re.fullmatch(f"{kind}(?: {kind})*", value)):
        raise ValueError(f"{value[:40]!r} are not {count} numbers")
    return values


def _check(tree: Mapping[str, str], features: int) -> None:
    """Hold a tree to what a walk through it relies on."""
    if not re.fullmatch(r"\d{1,5}", tree["num_leaves"]):
        raise ValueError("the number of leaves is none")
    leaves = int(tree["num_leaves"])
    if not 1 <= leaves <= LARGEST:
        raise ValueError(f"a tree of {leaves} leaves")
    if (tree["num_cat"], tree["is_linear"]) != ("0", "0"):
        raise ValueError("splits by category and linear trees are not read")
    _array(tree["shrinkage"], 1, NUMBER)
    arrays = {}
    for name in (*INNER, *LEAVES, *INTERNAL):
        count = leaves if name in LEAVES else leaves - 1
        # Of a tree without a split LightGBM leaves out what it does not know.
        if leaves == 1 and name in ("leaf_weight", "leaf_count") and not tree[name]:
            count = 0
        arrays[name] = _array(tree[name], count, INTEGER if name in WHOLE else NUMBER)
    if not all(math.isfinite(float(x)) for x in arrays["leaf_value"]):
        raise ValueError("a leaf's value is not finite")
    if not all(0 <= int(x) < features for x in arrays["split_feature"]):
        raise ValueError("a split reads a feature that is not there")
    if not DECISIONS.issuperset(map(int, arrays["decision_type"])):
        raise ValueError("a split of another type")
    _check_children(arrays, leaves)


def _check_children(arrays: Mapping[str, list[str]], leaves: int) -> None:
    """A child is a leaf, ``~leaf``, or an inner node after its parent, and has no other parent."""
    children = []
    for name in ("left_child", "right_child"):
        for parent, child in enumerate(map(int, arrays[name])):
            if 0 <= child <= parent:
                raise ValueError("a node is its own ancestor")
            children.append(child)
    if sorted(children) != [*range(-leaves, 0), *range(1, leaves - 1)] and leaves > 1:
        raise ValueError("the children of a tree are not all of its nodes, once each")
