"""finetune.py --dry-run: what it counts is what a run reads; on a tiny random model."""

import re
import shutil
from dataclasses import asdict

import pytest

from embeddings import inference as reading
from embeddings import replicas
from embeddings.backbone import hub
from embeddings.backbone.config import load_config
from embeddings.frozen import plan as planning
from embeddings.judge import cross_fit
from embeddings.judge import replicas as judge_replicas
from embeddings.judge.costs import Tokens
from embeddings.judge.trainer import Trainer
from pipelines import extract, finetune
from tiebreak import finetuning


def test_dry_run_prints_the_plan_and_writes_nothing(tuned, capsys):
    before = {p: p.stat().st_mtime_ns for p in tuned.rglob("*")}
    argv = ["--run", str(tuned), "--view", "logits-toy", "--dry-run", "--top-layers", "1"]
    assert finetune.command(argv) == 0
    out = capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in tuned.rglob("*")}
    for word in ("steps", "tokens", "time on this machine", "GPU", "GiB", "disk", "max_tokens=256"):
        assert word in out


@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["--predict-tokens", "200"],
        ["--epochs", "2", "--top-layers", "1", "--folds", "1"],
        ["--pool", "last", "--predict-tokens", "200"],
        ["--average-adapters"],
        ["--folds", "3", "--average-adapters", "--predict-tokens", "200", "--top-layers", "1"],
        ["--epochs", "0", "--predict-tokens", "200"],
        ["--epochs", "0", "--pool", "last"],
    ],
    ids=" ".join,
)
def test_the_plan_counts_what_a_run_reads(tuned, extra, tmp_path, monkeypatch):
    read = dict.fromkeys(("learned", "frozen", "queried", "lower"), 0)
    fill, step, sound, planned = (
        reading.read_into_store,
        Trainer._step,
        finetuning.valid_battles,
        [],
    )

    def long_answers(run):
        tables = sound(run)
        for table in tables.values():
            table["response_a"] = [[4 * text for text in turns] for turns in table["response_a"]]
        return tables

    def filling(store, todo, *how):
        name = {"frozen": "frozen", "lower": "lower"}.get(
            store.folder.name.split("-")[0], "queried"
        )
        # What a judge of no epoch says it makes of states that are read already.
        if name != "queried" or "0" not in extra:
            read[name] += sum(len(s.ids) for s in todo)
        fill(store, todo, *how)

    def stepping(self, samples):
        read["learned"] += sum(len(s.sequence.ids) for s in samples)
        return step(self, samples)

    def counting(*tables, average, folder):
        planned.append(asdict(Tokens.of(*tables[:4], tables[5], average=average)))
        return []

    run = shutil.copytree(tuned, tmp_path / "run", ignore=shutil.ignore_patterns("finetune"))
    settings = ["--max-tokens", "130", "--folds", "2"]
    if "0" not in extra:
        settings += ["--rank", "2", "--batch", "8"]
    argv = ["--run", str(run), "--view", "logits-new", *settings, *extra]
    monkeypatch.setattr(finetuning, "valid_battles", long_answers)
    monkeypatch.setattr(finetuning, "estimate_finetuning", counting)
    assert finetune.command([*argv, "--dry-run"]) == 0
    for module in (cross_fit, replicas, judge_replicas):
        monkeypatch.setattr(module, "read_into_store", filling)
    monkeypatch.setattr(Trainer, "_step", stepping)
    assert finetune.command(argv) == 0
    assert planned == [read]
    assert read["frozen"] > 0
    assert (read["queried"] == 0) == ("0" in extra)


def test_a_model_that_is_not_here_is_planned_with_another_tokenizer(
    tuned, toy_folder, capsys, monkeypatch
):
    def no_hub(*_, **__):
        raise ConnectionError

    def stand_in(name):
        return load_config(str(toy_folder) if name == extract.DEFAULT_BACKBONE else name)

    monkeypatch.setattr(hub, "snapshot_download", no_hub)
    monkeypatch.setattr(planning, "load_config", stand_in)
    assert finetune.command(["--run", str(tuned), "--backbone", "gemma2-9b", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "counted with the tokenizer of toy" in out
    assert "sizes guessed from 9.2 G parameters" in out
    assert re.search(r"memory of a GPU: [\d.]+ GiB", out)
    assert "time: not measured" in out
