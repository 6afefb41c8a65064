"""Point 12: the commands, as processes of their own, one of them killed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from arena.schema import CLASSES
from benchmarks.cuda.bench import BITSANDBYTES, CARD, PEFT, Bench, obstacle
from benchmarks.cuda.report import Part, Parts
from embeddings.cache.shards import SHARD_ITEMS
from embeddings.cache.tensor_files import read_tensors
from tests.helpers.planted import planted

ROOT = Path(__file__).resolve().parents[2]

TEST = 16
"""Battles of the test file."""

NEAR = 1e-3
"""How far the numbers of a store that was filled in two goes may be from those of one."""


class Commands:
    """Runs commands on battles of their own, with the model Q."""

    def __init__(self, bench: Bench) -> None:
        """Write battles and configuration.

        Args:
            bench: where the model is made.
        """
        self.bench, self.folder = bench, bench.folder / "commands"
        self.folder.mkdir(exist_ok=True)
        self.battles = bench.sizes.battles
        for name, n, seed in (("train", self.battles, 0), ("test", TEST, 1)):
            _write(self.folder / f"{name}.csv", n, seed, labelled=name == "train")
        config = bench.config("Q")
        # nf4 where it is, since it is what the YAMLs of large models name.
        quantization = "none" if obstacle([BITSANDBYTES]) else "nf4"
        entries = {
            "source": config.source,
            "quantization": quantization,
            "max_tokens": 1024,
            "batch_tokens": bench.sizes.batch_tokens,
        }
        self.yaml = self.folder / "q.yaml"
        # JSON is YAML.
        self.yaml.write_text(json.dumps(entries))

    def start(self, command: str, run: str, *more: str) -> subprocess.Popen[str]:
        """Start a command on a run; a file beside the run gets what it prints."""
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
        with (self.folder / f"{run}-{command}.log").open("a") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, str(ROOT / "pipelines" / f"{command}.py")),
                    *("--run", str(self.folder / run), *more),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.folder,
                text=True,
            )

    def extraction(self, run: str) -> subprocess.Popen[str]:
        """Start extract.py on a run."""
        files = [str(self.folder / f"{split}.csv") for split in ("train", "test")]
        how = ["--train", files[0], "--test", files[1], "--backbone", str(self.yaml)]
        return self.start("extract", run, *how)

    def ends(self, process: subprocess.Popen[str], what: str, part: Part) -> None:
        """Wait for a command, which must succeed; its last lines are in the reason otherwise."""
        try:
            code = process.wait()
        finally:
            # Where the time of the part is over.
            process.kill()
        if code:
            run = f"{what}.log"
            last = (self.folder / run).read_text().strip().splitlines()[-3:]
            if match := re.search(r"No module named '(\w+)", "".join(last)):
                raise ModuleNotFoundError(match[0], name=match[1])
            part.holds(f"{what} ends with 0, not {code}: {' | '.join(last)[-600:]}", False)

    def stores(self, run: str) -> dict[str, Path]:
        """Shards of the hidden states of a run, by folder and name."""
        hidden = self.folder / run / "views" / "hidden"
        return {str(path.relative_to(hidden)): path for path in hidden.glob("*/*.safetensors")}


def _write(path: Path, n: int, seed: int, *, labelled: bool) -> None:
    """Write planted battles in the LMSYS layout."""
    battles = planted(n, seed)
    table = pd.DataFrame({"id": [f"{seed}-{i}" for i in range(n)]})
    for column in ("prompt", "response_a", "response_b"):
        # Answers that are longer than a planted one, and no two of them alike.
        longer = [
            [f"{turns[0]} {i} " + "green cat " * (i % 40)]
            for i, turns in enumerate(battles[column])
        ]
        table[column] = [json.dumps(turns) for turns in longer]
    if labelled:
        for k, name in enumerate(CLASSES):
            table[name] = (battles["label"] == k).astype(int)
    table.to_csv(path, index=False)


def commands(bench: Bench, parts: Parts) -> None:
    """Point 12."""
    bench.drop()
    made: list[Commands] = []
    parts.run("files", lambda _: made.append(Commands(bench)))
    if not made:
        return
    run = made[0]
    parts.run("extract.py", partial(_extract, run))
    parts.run("extract.py, killed and rerun", partial(_killed, run))
    parts.run("verdict.py", partial(_verdict, run))
    needs = [PEFT] if bench.device == "cpu" else [PEFT, BITSANDBYTES, CARD]
    parts.run("finetune.py --folds 2", partial(_finetune, run), *needs)


def _extract(run: Commands, part: Part) -> None:
    run.ends(run.extraction("calm"), "calm-extract", part)
    part.figures["shards"] = len(run.stores("calm"))
    expected = -(-2 * run.battles // SHARD_ITEMS) + -(-2 * TEST // SHARD_ITEMS)
    part.holds(f"there are {expected} shards", len(run.stores("calm")) == expected)


def _killed(run: Commands, part: Part) -> None:
    process = run.extraction("killed")
    try:
        while process.poll() is None and not run.stores("killed"):
            time.sleep(0.01)
    finally:
        process.kill()
    code, there = process.wait(), len(run.stores("killed"))
    part.figures["shards when it was killed"] = there
    part.holds(f"it was killed before its end: it ended with {code}", code == -9)
    run.ends(run.extraction("killed"), "killed-extract", part)
    calm, killed = run.stores("calm"), run.stores("killed")
    part.holds("the stores have the same shards", killed.keys() == calm.keys())
    equal = [killed[name].read_bytes() == path.read_bytes() for name, path in calm.items()]
    part.figures["shards with the same bytes"] = f"{sum(equal)} of {len(equal)}"
    distances = [_largest_distance(path, killed[name]) for name, path in calm.items()]
    part.at_most("largest distance of states", max(distances, default=np.inf), NEAR)


def _largest_distance(calm: Path, killed: Path) -> float:
    some, other = (read_tensors(path)[0]["states"].float() for path in (killed, calm))
    return float((some - other).norm() / other.norm())


def _verdict(run: Commands, part: Part) -> None:
    run.ends(run.start("verdict", "calm"), "calm-verdict", part)
    _views(run, "verdict", part)


def _finetune(run: Commands, part: Part) -> None:
    rank = str(run.bench.sizes.rank)
    how = ["--folds", "2", "--rank", rank, "--alpha", rank, "--max-tokens", "512", "--batch", "8"]
    run.ends(run.start("finetune", "calm", *how), "calm-finetune", part)
    _views(run, "logits", part)


def _views(run: Commands, kind: str, part: Part) -> None:
    """Check that views of a kind have finite numbers for every battle of both splits."""
    for split, rows in (("train", run.battles), ("test", TEST)):
        (path, *_) = [*(run.folder / "calm" / "views").glob(f"{kind}*/{split}.parquet"), Path()]
        part.holds(f"{split} has a view {kind}", path.is_file())
        if path.is_file():
            table = pq.read_table(path).to_pandas()
            values = torch.from_numpy(table.select_dtypes("number").to_numpy(np.float64))
            part.figures[f"{split} rows"] = len(table)
            whole = len(table) == rows and bool(values.isfinite().all())
            part.holds(f"{split}: {rows} rows, all finite", whole)
