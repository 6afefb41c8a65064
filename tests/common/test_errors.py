"""The codes of errors: each is documented, each is in use."""

import ast
import pickle
import re
from pathlib import Path

from common.errors import Code, UserError

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "arena",
    "benchmarks",
    "common",
    "embeddings",
    "features",
    "meta",
    "pipelines",
    "tiebreak",
)


def codes_in_use() -> set[str]:
    """The members of ``Code`` that the product names; mypy holds that no error lacks one."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Code"
    }


def test_every_code_is_documented_under_its_name():
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| (TB\d{3}) \| (\w+) \| \S.* \| \S.* \|$", text, re.MULTILINE)
    assert documented == [(code.value, code.name) for code in Code]


def test_every_code_is_in_use():
    assert codes_in_use() == set(Code.__members__)


def test_numbers_are_of_one_form_and_in_order():
    values = [code.value for code in Code.__members__.values()]
    assert all(re.fullmatch(r"TB\d{3}", value) for value in values)
    assert values == sorted(set(values))


def test_an_error_is_one_line_that_begins_with_its_code():
    error = UserError(Code.INPUT_EMPTY, "votes.csv\nis  empty.")
    assert str(error) == "[TB003] votes.csv is empty."
    assert (error.code, error.message) == (Code.INPUT_EMPTY, "votes.csv is empty.")


def test_an_error_keeps_its_code_on_the_way_between_processes():
    error = pickle.loads(pickle.dumps(UserError(Code.RUN_IN_USE, "runs/a is in use")))
    assert (type(error), str(error)) == (UserError, "[TB101] runs/a is in use")
