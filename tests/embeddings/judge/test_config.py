"""Recipes of fine-tuning: every YAML has a sound one, and what is wrong is said in one line."""

from dataclasses import fields

import pytest

from common.errors import Code
from embeddings.backbone.config import CONFIGS, finetune_entries, load_config
from embeddings.judge.config import JudgeConfig
from tests.helpers.errors import raises


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_backbone_can_be_fine_tuned(path):
    recipe = JudgeConfig.of(finetune_entries(path.stem))
    assert recipe.longest >= load_config(path.stem).max_tokens // 2


def test_the_finetune_part_is_read_from_the_yaml_and_is_no_part_of_the_backbone(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("source: a/b\nfinetune:\n  rank: 4\n  lr: 1.0e-3\n")
    assert JudgeConfig.of(finetune_entries(str(path))) == JudgeConfig(rank=4, lr=1e-3)
    bare = load_config(str(path))
    path.write_text("source: a/b\n")
    assert load_config(str(path)) == bare
    assert finetune_entries(str(path)) == {}
    assert finetune_entries(str(tmp_path)) == {}
    path.write_text("source: a/b\nfinetune: 3\n")
    with raises(Code.BACKBONE_CONFIG_INVALID, match="finetune"):
        finetune_entries(str(path))


def test_every_field_has_help():
    options = JudgeConfig.options()
    assert list(options) == [f.name for f in fields(JudgeConfig)]
    assert all(option.description for option in options.values())


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        ({"ranks": 3}, "ranks"),
        ({3: 3}, "3"),
        ({"rank": 0}, "rank"),
        ({"rank": 1.5}, "rank"),
        ({"epochs": True}, "epochs"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing"),
        ({"lr": "fast"}, "lr"),
        ({"lr": True}, "lr"),
        ({"lr": -1.0}, "lr"),
        ({"lr": float("inf")}, "lr"),
        ({"head_lr": float("nan")}, "head_lr"),
        ({"dropout": 1.0}, "dropout"),
        ({"warmup": 2}, "warmup"),
        ({"head": "tail"}, "head"),
        ({"read_layers": "0.5,top"}, "read_layers"),
        ({"read_layers": "0,1"}, "read_layers"),
        ({"ce": 0, "kl": 0, "cosine": 0}, "all 0"),
    ],
)
def test_what_is_wrong_is_named(entries, name):
    with raises(Code.RECIPE_INVALID, match=name) as error:
        JudgeConfig.of(entries)
    assert "\n" not in str(error.value)


def test_numbers_stay_as_they_were_written():
    """The address of a judge is a hash of them."""
    assert repr(JudgeConfig.of({"weight_decay": 0, "lr": 1}).weight_decay) == "0"
    assert repr(JudgeConfig.of({"weight_decay": 0.0}).weight_decay) == "0.0"
