"""Recipes of fine-tuning: every YAML has a sound one, and what is wrong is said in one line."""

from dataclasses import fields

import pytest

from common.errors import UserError
from embeddings.backbone.config import CONFIGS, finetune_entries, load_config
from embeddings.judge.config import JudgeConfig


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
    with pytest.raises(UserError, match="key: value"):
        finetune_entries(str(path))


def test_every_field_has_help():
    assert all(f.metadata["help"] for f in fields(JudgeConfig))


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ({"ranks": 3}, "unknown ranks"),
        ({"rank": 0}, "rank is less than 1"),
        ({"rank": 1.5}, "rank is 1.5, which is not int"),
        ({"epochs": True}, "epochs is True"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing is 1"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"lr": -1.0}, "lr is negative"),
        ({"lr": float("inf")}, "lr is inf, which is not a finite number"),
        ({"head_lr": float("nan")}, "head_lr is nan, which is not a finite number"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"warmup": 2}, "warmup 2"),
        ({"head": "tail"}, "head is 'tail'"),
        ({"ce": 0, "kl": 0, "cosine": 0}, "all 0"),
    ],
)
def test_what_is_wrong_is_named(entries, complaint):
    with pytest.raises(UserError) as error:
        JudgeConfig.of(entries)
    assert complaint in str(error.value)
