"""Feed damaged and hostile input to everything that reads a file, and count what breaks.

    python benchmarks/fuzz.py --inputs 1000000
    python benchmarks/fuzz.py --inputs 2000 --only battles --only packing

Atheris (libFuzzer) changes valid files of every layout, guided by the lines of our code that they
reach. An exception other than UserError, a crash, or 60 seconds for one input is a finding: it is
printed once a place in the code, and the input that led there is kept in --keep. The same seed and
number of inputs give the same inputs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from hashlib import sha256
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]

INSTRUMENTED = [
    "arena",
    "embeddings.backbone.config",
    "embeddings.prompts.truncation",
    "embeddings.judge.config",
    "embeddings.cache.shards",
    "embeddings.cache.tensor_files",
    "meta.stack.model_io",
    "meta.stack.booster_text",
]
"""Modules whose lines guide the search; the others would only slow it down."""

WEIGHTS = {"cells": 4, "formats": 4, "packing": 2, "record": 2}
"""Shares of the inputs; a target that is not named has one."""

EVERY = 200


def place(error: BaseException) -> str:
    """Type of an error, and the line of ours nearest to where it was raised."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if str(ROOT) in f.filename]
    ours = [f for f in ours if "site-packages" not in f.filename] or ours
    where = f"{Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {where}"


def child(name: str, inputs: int, seed: int, folder: Path, keep: Path) -> None:
    """Fuzz one target in this process, which ends with the last input."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from benchmarks.fuzz_targets import TARGETS

    from common.errors import UserError

    target, seeds = TARGETS[name](folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(seeds):
        (corpus / f"{number:03}").write_bytes(content)
    findings: dict[str, list[str]] = {}
    done = 0

    def report() -> None:
        text = json.dumps({"inputs": done, "findings": findings})
        (folder / "report.json").write_text(text)

    def one(data: bytes) -> None:
        nonlocal done
        try:
            target(data)
        except UserError:
            pass
        except Exception as error:
            where = place(error)
            if where not in findings:
                path = keep / f"{name}-{sha256(where.encode()).hexdigest()[:8]}"
                path.write_bytes(data)
                findings[where] = [str(error)[:200], str(path)]
        done += 1
        if done % EVERY == 0 or done >= inputs:
            report()
        if done >= inputs:
            # libFuzzer would end the process in its own way.
            os._exit(0)

    options = ["-max_len=4096", "-timeout=60", "-rss_limit_mb=6000", f"-artifact_prefix={keep}/"]
    atheris.Setup([name, f"-seed={seed}", *options, str(corpus)], one)
    atheris.Fuzz()


def fuzz(name: str, inputs: int, seed: int, keep: Path) -> tuple[int, dict[str, list[str]]]:
    """Fuzz one target in a process of its own; inputs done, findings by their place."""
    with tempfile.TemporaryDirectory(prefix="fuzz.") as temporary:
        folder = Path(temporary)
        arguments = [name, str(inputs), str(seed), temporary, str(keep)]
        ended = subprocess.run(
            [sys.executable, __file__, "--child", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            cwd=ROOT,
        )
        report = folder / "report.json"
        result = (
            json.loads(report.read_text()) if report.exists() else {"inputs": 0, "findings": {}}
        )
        if ended.returncode:
            result["findings"][f"exit code {ended.returncode}"] = [ended.stderr[-1500:], str(keep)]
        return result["inputs"], result["findings"]


def main() -> int:
    """Print a line a target, then every finding; exit code 1 where there is one."""
    if sys.argv[1:2] == ["--child"]:
        name, count, seed, *folders = sys.argv[2:]
        child(name, int(count), int(seed), *map(Path, folders))
    from benchmarks.fuzz_targets import TARGETS

    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--inputs", type=int, default=1_000_000, help="in all (1000000)")
    p.add_argument("--seed", type=int, default=1, help="of the first target (1)")
    p.add_argument("--only", action="append", choices=sorted(TARGETS), help="these targets")
    p.add_argument("--keep", default="fuzz-findings", help="folder for inputs (fuzz-findings)")
    arguments = p.parse_args()
    keep = Path(arguments.keep).resolve()
    keep.mkdir(parents=True, exist_ok=True)
    names = arguments.only or list(TARGETS)
    shares = {name: WEIGHTS.get(name, 1) for name in names}
    total, findings, start = 0, {}, time.monotonic()
    for number, name in enumerate(names):
        inputs = -(-arguments.inputs * shares[name] // sum(shares.values()))
        begin = time.monotonic()
        done, new = fuzz(name, inputs, arguments.seed + number, keep)
        seconds = time.monotonic() - begin
        print(f"{name:14}{done:>10,} inputs{len(new):>4} findings{seconds:>8,.0f} s", flush=True)
        total += done
        findings |= {f"{name}: {where}": what for where, what in new.items()}
    for where, (message, path) in findings.items():
        print(f"\n{where}\n  {message}\n  {path}")
    seconds = time.monotonic() - start
    print(f"\n{total:,} inputs, {len(findings)} findings, {seconds:,.0f} s, seed {arguments.seed}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
