"""What finetune.py keeps of its calls, and which judges answer; on a tiny random model."""

import json

import numpy as np
import pytest

from arena.feature_table import FeatureTable
from arena.folds import held_out
from arena.predictions_file import one_hot
from common.run_dir import RunDir
from embeddings.backbone.config import load_config
from embeddings.backbone.load import load_tokenizer
from embeddings.both_orders import view_values
from embeddings.judge.config import JudgeConfig
from embeddings.judge.cross_fit import Judges
from embeddings.judge.dataset import JudgeDataset
from embeddings.judge.trainer import RECORD
from pipelines import finetune, verdict
from tests.helpers.tuned_runs import QUICK
from tiebreak.finetuning import PackedSplits
from tiebreak.last_options import valid_battles


def seconds(run, key):
    return RunDir(run).read_record()["seconds"][key]


def test_a_call_that_finds_all_done_does_not_hide_what_it_took(tuned):
    run, argv = RunDir(tuned), ["--run", str(tuned)]
    assert verdict.command(argv) == 0
    run.update_record(seconds={"finetune_logits-toy": 1e6, "verdict-toy": 1e6})
    assert finetune.command(argv) == verdict.command(argv) == 0
    assert seconds(tuned, "finetune_logits-toy") == seconds(tuned, "verdict-toy") == 1e6
    # Other settings cost what they cost.
    assert finetune.command([*argv, "--epochs", "0"]) == 0
    assert verdict.command([*argv, "--max-tokens", "300"]) == 0
    assert max(seconds(tuned, k) for k in ("finetune_logits-toy", "verdict-toy")) < 1e3


def test_what_killed_calls_had_trained_counts(tuned):
    for path in (tuned / "finetune").glob(f"*/{RECORD}"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 5e5}))
    argv = ["--run", str(tuned), "--view", "logits-again", *QUICK]
    assert finetune.command(argv) == 0
    assert seconds(tuned, "finetune_logits-again") == 1e6


def test_the_test_gets_the_mean_of_the_judges_or_the_averaged_judge(tuned):
    views = {}
    for how in ("no-average-adapters", "average-adapters"):
        argv = ["--run", str(tuned), "--view", f"logits-{how}", *QUICK, f"--{how}"]
        assert finetune.command(argv) == 0
        views[how] = FeatureTable.read(tuned / "views" / f"logits-{how}" / "test.parquet").values
    # The same judges, asked one by one.
    record = RunDir(tuned).read_record()["finetune"]["logits-average-adapters"]
    config, recipe = load_config(record["backbone"]["asked"]), JudgeConfig(**record["recipe"])
    judges = Judges(config, recipe, RunDir(tuned).judges, 1)
    battles = valid_battles(RunDir(tuned))
    packed = PackedSplits.of(battles, load_tokenizer(config), recipe)
    labels, groups = (battles["train"][c].tolist() for c in ("label", "group"))
    learned = JudgeDataset(packed.train, one_hot(np.array(labels)), groups)
    folders = [
        judges.address(learned.take(np.flatnonzero(~out)))
        for out in held_out(groups, record["folds"])
    ]
    each = [view_values(*judges.logits(folder, packed.test, "")) for folder in folders]
    assert len(each) == 2
    assert not np.allclose(*each, atol=1e-3)
    assert views["no-average-adapters"] == pytest.approx((each[0] + each[1]) / 2, abs=1e-6)
    averaged = view_values(*judges.logits(judges.average(folders), packed.test, ""))
    assert np.array_equal(views["average-adapters"], averaged)
    assert not np.array_equal(*views.values())
