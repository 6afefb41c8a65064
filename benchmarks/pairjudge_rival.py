"""The nearest rival, PyPI's pairjudge, on the same battles and backbone: its log loss beside ours.

    python3.11 -m venv rival && rival/bin/pip install "pairjudge[train]==0.3.0"
    python benchmarks/pairjudge_rival.py --python rival/bin/python --backbone MODEL_FOLDER
        --train votes-train.csv --test votes-test.csv --labels votes-test-labels.csv
        --out runs/rival --beside runs/votes

pairjudge needs older libraries than we do, hence an environment of its own. It trains LoRA and a
linear head on one order of each battle (fp32 on a CPU), keeps 5% of the prompts to choose the epoch
by, and scores one order or the mean of both. --top-layers puts LoRA on the top layers only, so that
its backward pass costs what ours does. Files are read by our readers, so it gets the very battles
that a run gets; a row that it cannot pack is scored by the training prior. A finished training is
not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd

from arena.battle_rows import ReadOptions
from arena.reader import read_battles, valid_rows
from arena.schema import CLASSES
from arena.votes_file import read_votes
from common.errors import Code, UserError
from common.files import read_json, write_json
from meta.metrics.scores import log_loss
from pipelines import cli

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_rows(battles: pd.DataFrame, path: Path) -> None:
    """Battles as the rival reads them: lists of turns of equal length, one-hot votes."""
    with path.open("w", encoding="utf-8") as f:
        for row in battles.itertuples():
            turns = [row.prompt, row.response_a, row.response_b]
            rounds = max(map(len, turns))
            texts = [[t or "" for t in x] + [""] * (rounds - len(x)) for x in turns]
            entry = dict(zip(("prompt", "response_a", "response_b"), texts, strict=True))
            votes = {name: float(k == row.label) for k, name in enumerate(CLASSES)}
            f.write(json.dumps({"id": row.id, **entry, **votes}) + "\n")


def targets(backbone: Path, top: int) -> list[str]:
    """Names by which LoRA finds the projections of the top ``top`` layers; of all for 0."""
    if not top:
        return list(PROJECTIONS)
    total = read_json(backbone / "config.json")["num_hidden_layers"]
    parts = {p: "self_attn" if p[0] in "qkvo" else "mlp" for p in PROJECTIONS}
    return [f"layers.{i}.{parts[p]}.{p}" for i in range(total - top, total) for p in PROJECTIONS]


def rival(python: str, *argv: str) -> dict[str, float]:
    """Run a command in the rival's environment; its seconds and those of the processor.

    Raises:
        UserError: it failed.
    """
    start, before = time.monotonic(), os.times()
    if subprocess.run([python, *argv], check=False).returncode:
        raise UserError(Code.PROGRAM_FAILED, f"{python} {' '.join(argv)} failed: see above")
    after = os.times()
    cpu = sum(after[i] - before[i] for i in (2, 3))
    return {"wall": round(time.monotonic() - start, 1), "cpu": round(cpu, 1)}


def main(arguments: argparse.Namespace) -> None:
    """Train, score, print."""
    out, backbone = Path(arguments.out), Path(arguments.backbone).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    train = valid_rows(
        read_battles(arguments.train, labelled=True, options=ReadOptions(limit=arguments.limit))
    )
    test = valid_rows(
        read_battles(arguments.test, labelled=False, options=ReadOptions(limit=arguments.limit))
    )
    labels = read_votes(arguments.labels, test["id"].tolist()).labels
    test, labels = test[labels >= 0].reset_index(drop=True), labels[labels >= 0]
    write_rows(train, out / "train.jsonl")
    write_rows(test, out / "test.jsonl")
    judge, seconds = out / "judge", {}
    if not judge.exists():
        config = {
            "train_path": str(out / "train.jsonl"),
            "output_dir": str(judge),
            "model_name": str(backbone),
            "local_files_only": True,
            "max_length": arguments.max_tokens,
            "n_epochs": float(arguments.epochs),
            "lr": arguments.lr,
            "warmup_steps": max(1, len(train) // 80),
            "lora_target_modules": targets(backbone, arguments.top_layers),
        }
        # JSON is YAML, too.
        write_json(out / "judge.yaml", config)
        seconds["train"] = rival(
            arguments.python, "-m", "pairjudge.training", "--cfg", str(out / "judge.yaml")
        )
    scorer = Path(__file__).with_name("pairjudge_scorer.py")
    seconds["score"] = rival(arguments.python, str(scorer), str(judge / "merged"), str(out))
    scores = read_json(out / "scores.json")
    prior = np.bincount(train["label"], minlength=3) / len(train)
    prior[:2] = prior[:2].mean()
    result = {"rows": len(labels), "train_rows": len(train), "seconds": seconds, "log_loss": {}}
    for name in ("one order", "both orders"):
        p = np.array([row or prior for row in scores[name]], dtype=np.float64)
        result["log_loss"][f"pairjudge, {name}"] = log_loss(p, labels)
    result["unusable"] = sum(row is None for row in scores["one order"])
    write_json(out / "result.json", result)
    print(f"{len(labels):,} test battles, {result['unusable']} of which pairjudge cannot pack")
    figures = dict(result["log_loss"])
    if arguments.beside:
        ours = read_json(Path(arguments.beside) / "evaluation.json")
        figures |= ours["log_loss"]
        if ours["rows"] != len(labels):
            print(f"{arguments.beside} was scored on {ours['rows']:,} battles: not comparable")
    for name, loss in sorted(figures.items(), key=lambda entry: -entry[1]):
        print(f"{name:26}{loss:.4f}")
    for step, spent in seconds.items():
        print(f"{step}: {spent['wall']:,.0f} s, {spent['cpu']:,.0f} s of processor time")


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--python", required=True, help="the interpreter that has pairjudge[train]")
    p.add_argument("--train", metavar="FILE", required=True, help="battles with votes")
    p.add_argument("--test", metavar="FILE", required=True, help="battles to score")
    p.add_argument("--labels", metavar="FILE", required=True, help="votes of the test battles")
    p.add_argument("--backbone", metavar="DIR", required=True, help="a model folder")
    p.add_argument("--out", metavar="DIR", required=True, help="where everything goes")
    p.add_argument("--beside", metavar="DIR", help="run whose evaluation.json is printed beside")
    p.add_argument("--limit", type=cli.positive, metavar="N", help="first N rows of each file only")
    p.add_argument("--epochs", type=cli.positive, default=1, help="times each battle is read")
    p.add_argument("--max-tokens", type=cli.positive, default=768, help="of a sequence")
    p.add_argument("--lr", type=float, default=2e-4, help="peak learning rate, pairjudge's own")
    p.add_argument("--top-layers", type=int, default=0, help="LoRA on so many layers; 0: on all")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
