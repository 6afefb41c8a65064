"""The worlds in which faults happen: a small disk, a clock that jumps, a user without rights."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.fault_bench import ROOT, Bench

if TYPE_CHECKING:
    from benchmarks.faults import Outcome

DAMAGED = (
    ("extract", "views/hidden/*/*.safetensors"),
    ("extract", "views/style/*.parquet"),
    ("extract", "views/likelihood/*.parquet"),
    ("extract", "battles/*.parquet"),
    ("finetune", "finetune/lower-*/*.safetensors"),
    ("finetune", "finetune/*/weights.safetensors"),
    ("finetune", "finetune/*/logits/*.safetensors"),
    ("finetune", "views/logits-*/*.parquet"),
    ("train_meta", "model/bundle.json"),
    ("train_meta", "model/*/booster-*.txt"),
)
"""Files, and the command that makes them."""

YEAR = 365 * 86400


def script_of(name: str) -> list[str]:
    """How a user calls a command."""
    return [sys.executable, str(ROOT / "pipelines" / f"{name}.py")]


def script(bench: Bench, name: str, run: Path) -> list[str]:
    """The command with its arguments, as a user gives it."""
    return [*script_of(name), *bench.argv(name, run)]


def as_script(
    bench: Bench,
    name: str,
    run: Path,
    environment: dict[str, str] | None = None,
    prefix: list[str] | None = None,
) -> tuple[int, str]:
    """Run a command as a user does; its exit code and its output."""
    done = subprocess.run(
        [*(prefix or []), *script(bench, name, run)],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout


class Finished:
    """A command that ran in another file system; looks like ``fault_bench.Started``."""

    def __init__(self, code: int, output: str) -> None:
        self.code, self.output = code, output

    def wait(self) -> int:
        """Its exit code."""
        return self.code


def on_a_small_disk(bench: Bench, name: str, run: Path, space: int) -> tuple[Any, Any]:
    """Give a command on a copy of the run on a file system of ``space`` bytes, then with room.

    The run itself becomes what the second one left.
    """
    small = bench.folder / "small"
    small.mkdir(exist_ok=True)
    command = shlex.join(script(bench, name, small / run.name))
    # A file takes whole pages, and a folder one.
    pages = sum(-(-p.stat().st_size // 4096) + 1 for p in run.rglob("*")) + 8
    size = max(space, pages * 4096)
    steps = f"""
        mount -t tmpfs -o size={size} small {small}
        cp -a {run} {small}/
        code=0; ({command}) > {bench.folder}/first.log 2>&1 || code=$?
        echo $code > {bench.folder}/first.rc
        mount -o remount,size=1g {small}
        code=0; ({command}) > {bench.folder}/second.log 2>&1 || code=$?
        echo $code > {bench.folder}/second.rc
        rm -rf {run} && cp -a {small}/{run.name} {run}
    """
    subprocess.run(["unshare", "-rm", "bash", "-ec", steps], check=True)
    first, second = (
        Finished(
            int((bench.folder / f"{n}.rc").read_text()), (bench.folder / f"{n}.log").read_text()
        )
        for n in ("first", "second")
    )
    return first, second


def is_locked(run: Path, name: str) -> bool:
    """Whether a command holds its lock already."""
    path = (run / "finetune" if name == "finetune" else run) / ".lock"
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def ready() -> None:
    """Say that Ctrl-C is heard from here on."""
    print("ready", flush=True)


def shuffle_file_times(run: Path, rng: random.Random) -> None:
    """Give all files times between 1980 and 2050."""
    for path in run.rglob("*"):
        times = [rng.uniform(10 * YEAR, 80 * YEAR) for _ in range(2)]
        os.utime(path, times=(times[0], times[1]))


@contextlib.contextmanager
def jumping_clock(folder: Path, rng: random.Random) -> Iterator[dict[str, str]]:
    """The environment of processes whose clock jumps by up to ten years, twenty times a second."""
    import libfaketime

    library = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
    file, stop = folder / "clock", threading.Event()

    def jump() -> None:
        while True:
            fresh = file.with_suffix(".new")
            fresh.write_text(f"{rng.uniform(-10, 10) * YEAR:+.3f}\n")
            fresh.replace(file)
            if stop.wait(0.05):
                return

    thread = threading.Thread(target=jump)
    thread.start()
    try:
        yield {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
    finally:
        stop.set()
        thread.join()


def batches_of_a_gpu() -> None:
    """Read in batches of 1,200 tokens on this CPU, as a GPU would; and give the budget a name."""
    _with_memory_for(1 << 30)


def short_of_memory() -> None:
    """The same, where no batch of more than 300 tokens fits."""
    _with_memory_for(300)


def _with_memory_for(tokens: int) -> None:
    import torch

    from embeddings.frozen.answer_reader import AnswerReader
    from embeddings.frozen.scoring import Scorer

    score, load = Scorer.score, AnswerReader.__init__

    def read(self: Scorer, items: Any) -> Any:
        if len(items) * max(item.length for item in items) > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return score(self, items)

    def batched(self: AnswerReader, *arguments: Any) -> None:
        load(self, *arguments)
        self.budget.tokens = 1200

    AnswerReader.__init__ = batched  # type: ignore[method-assign]
    Scorer.score = read  # type: ignore[method-assign]


def beyond_rounding(wanted: dict[str, bytes], actual: dict[str, bytes]) -> list[str]:
    """Files that differ by more than batches do: float32 sums in another order, then float16."""
    import numpy as np
    from safetensors.numpy import load

    unequal = sorted({*wanted} ^ {*actual})
    for name in {*wanted} & {*actual}:
        if name.endswith(".safetensors"):
            a, b = load(wanted[name]), load(actual[name])
            for key in a:
                if not np.allclose(a[key], b[key], atol=2e-3, rtol=2e-3, equal_nan=True):
                    unequal.append(name)
        elif "likelihood" not in name and wanted[name] != actual[name]:
            unequal.append(name)
    return unequal


def infinite_token(bench: Bench, out: Outcome) -> None:
    """Make the embedding of "2" infinite; the battles without it get what an intact model gives."""
    import numpy as np
    import pandas as pd
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    from arena.feature_table import FeatureTable

    folder = bench.folder / "infinite"
    model = shutil.copytree(bench.folder / "model", folder / "model")
    (folder / "exact.yaml").write_text(f"source: {model}\ndtype: float32\n")
    tokenizer = AutoTokenizer.from_pretrained(model)
    weights = load_file(model / "model.safetensors")
    lost = {}
    texts = ["prompt", "response_a", "response_b"]
    for split in ("train", "test"):
        table = pd.read_csv(bench.folder / f"{split}.csv", dtype=str)
        marked = np.arange(len(table)) % 4 == 1
        for name in texts:
            table[name] = table[name].str.replace("2", "3")
        table.loc[marked, "response_a"] = [
            json.dumps([json.loads(cell)[0] + " 2."]) for cell in table.loc[marked, "response_a"]
        ]
        table.to_csv(folder / f"{split}.csv", index=False)
        lost[split] = table["id"][marked].tolist()
    views = {}
    for kind in ("intact", "infinite"):
        if kind == "infinite":
            for token in {tokenizer.encode(" 2")[-1], tokenizer.encode("2")[-1]}:
                weights["model.embed_tokens.weight"][token] = np.inf
            save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
        run = folder / kind
        files = [*("--train", str(folder / "train.csv")), *("--test", str(folder / "test.csv"))]
        argv = {"extract": [*files, "--backbone", str(folder / "exact.yaml")]}
        output = ""
        for name in ("extract", "finetune", "train_meta", "submit"):
            options = argv.get(name) or bench.argv(name, run)[:-2]
            done = subprocess.run(
                [*script_of(name), *options, "--run", str(run)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode:
                out.complaints.append(f"{kind} {name}: {done.stdout[-600:]}")
                return
            output += done.stdout
        views[kind] = {
            (split, name): FeatureTable.read(run / "views" / name / f"{split}.parquet")
            for split in ("train", "test")
            for name in ("style", "likelihood")
        }
    out.injected += sum(map(len, lost.values()))
    out.rows_lost += bench.rows_lost(folder / "infinite")
    for (split, name), view in views["infinite"].items():
        known = ~np.isin(view.ids, lost[split])
        intact = views["intact"][split, name]
        if not np.array_equal(view.values[known], intact.values[known], equal_nan=True):
            out.unequal.append(f"{split} {name}")
        if name == "likelihood" and not np.isnan(view.values[~known]).all():
            out.complaints.append(f"{split}: numbers where there should be none")
        if name == "likelihood" and f"id {lost[split][0]!a}" not in output:
            out.complaints.append(f"{split}: {lost[split][0]} is not named: {output[-600:]}")
    shutil.rmtree(folder)


def without_rights() -> list[str]:
    """What stands before a command that is to obey permissions, even root's, and has no network."""
    if os.geteuid() != 0:
        return []
    return ["unshare", "-n", "setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


def read_only_cache(bench: Bench, out: Outcome) -> None:
    """A Hub cache that holds the model and may only be read."""
    hub = bench.folder / "hub"
    repository = hub / "models--toys--tiny"
    shutil.copytree(bench.folder / "model", repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    yaml = bench.folder / "exact.yaml"
    before = yaml.read_text()
    run = bench.copy("extract")
    everything = [hub, *hub.rglob("*")]
    try:
        yaml.write_text("source: toys/tiny\ndtype: float32\n")
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        code, output = as_script(
            bench, "extract", run, {"HF_HUB_CACHE": str(hub)}, without_rights()
        )
    finally:
        yaml.write_text(before)
        for path in everything:
            path.chmod(0o755)
        shutil.rmtree(hub)
    out.injected += 1
    if code:
        out.complaints.append(f"ended with {code}: {output[-600:]}")
    out.compare(bench, "extract", run)
