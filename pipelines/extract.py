"""Stage one: turn battles into evidence.

    python pipelines/extract.py                                            the sample
    python pipelines/extract.py --train train.csv --test test.csv --run runs/lmsys
    python pipelines/extract.py --test more.csv --run runs/lmsys           another test set
    python pipelines/extract.py --train train.csv --backbone gemma2-9b --dry-run
    python pipelines/extract.py --run runs/lmsys --engine ray --ray-address host:6379

FILE is CSV, parquet or JSONL in any public layout, a local path or a URL that fsspec opens.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import _script  # noqa: F401

import pandas as pd

import features
from arena import sample
from arena.battle_table import read_battles_groups
from arena.feature_table import write_feature_tables
from arena.ingest import IngestSummary, ingest_file, write_rejected
from arena.reader import BattleFile, open_battles, valid_rows
from common.errors import Code, UserError
from common.files import atomic
from common.parallel import peak_mib
from common.parquet import read_notes
from common.run_dir import SPLITS, RunDir
from embeddings.backbone.config import BackboneConfig, load_config
from embeddings.backbone.runtime import AUTO, ENGINES, TORCH, choose
from embeddings.cache.shards import settings_hash
from embeddings.frozen.answer_reader import evidence_settings
from embeddings.frozen.costs import estimate_reading
from embeddings.frozen.extract import Reader, extract
from embeddings.frozen.language_model import LanguageModel
from embeddings.frozen.plan import plan
from embeddings.frozen.ray_workers import RayWorkers
from pipelines.run_record import as_json, asked_before, record_costs, record_inputs

DEFAULT_BACKBONE = "smollm2-135m"
RAY = "ray"
from pipelines import cli


def sources(arguments: argparse.Namespace) -> dict[str, str]:
    """The files to read by split; the sample where none is named."""
    named = {s: getattr(arguments, s) for s in SPLITS if getattr(arguments, s)}
    return named or {"train": str(sample.TRAIN), "test": str(sample.TEST)}


def run_of(arguments: argparse.Namespace, files: dict[str, str]) -> RunDir:
    """The run directory: the one named, else runs/<name of the first file>."""
    if arguments.run:
        return RunDir(Path(arguments.run))
    if not (arguments.train or arguments.test):
        return RunDir(Path("runs/sample"))
    name = next(iter(files.values())).rstrip("/").rsplit("/", 1)[-1].split(".")[0]
    return RunDir(Path("runs") / (name or "unnamed"))


def asked_backbone(arguments: argparse.Namespace, record: dict[str, Any]) -> str:
    """The name of the backbone asked for, else of the run's own, else of the default."""
    own: str = record.get("backbone", {}).get("asked", DEFAULT_BACKBONE)
    return arguments.backbone or own


def backbone(arguments: argparse.Namespace, record: dict[str, Any]) -> BackboneConfig:
    """The backbone of ``asked_backbone``, quantized as asked, else as the run's own.

    Raises:
        UserError: its configuration is not sound.
    """
    before = record.get("backbone")
    asked = asked_backbone(arguments, record)
    config = load_config(asked)
    quantization = arguments.quantization
    if quantization is None and before and asked == before["asked"]:
        quantization = before["quantization"]
    if quantization is not None:
        config = replace(config, quantization=quantization)
    return config


def engine(arguments: argparse.Namespace, record: dict[str, Any], config: BackboneConfig) -> str:
    """What will run the backbone: the engine asked for, else the run's own, else torch.

    Raises:
        UserError: OpenVINO was asked for and cannot run here.
    """
    before = record.get("backbone", {})
    own = before.get("engine", TORCH) if as_json(config) == before.get("config") else TORCH
    # Ray's actors read with torch, to the same bytes.
    asked = TORCH if arguments.engine == RAY else arguments.engine
    found, note = choose(asked or own, config)
    if note:
        print(note)
    return found


def sound_parts(run: RunDir, split: str) -> Iterator[pd.DataFrame]:
    """The sound battles of a split from the disk, so that they need not fit into memory."""
    return map(valid_rows, read_battles_groups(run.battles(split)))


def write_style(run: RunDir, split: str, taken: IngestSummary) -> None:
    """Make the handcrafted view, unless it stands already for this text and this code."""
    path = run.views / "style" / f"{split}.parquet"

    def stamp() -> str:
        # A changed byte, which parquet's checksums of pages may miss, makes it anew too.
        with path.open("rb") as file:
            written = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{features.FINGERPRINT} {taken.content} {written}"

    stands = path.exists() and run.read_record().get("style", {}).get(split) == stamp()
    # A view of before there was that note has none.
    if stands and read_notes(path).get("battles") == taken.texts:
        print(f"{split}: handcrafted signals stand already")
        return
    write_feature_tables(path, features.stream(sound_parts(run, split), taken.valid), taken.texts)
    run.update_record(style={split: stamp()})


@contextmanager
def reading(arguments: argparse.Namespace, config: BackboneConfig, runner: str) -> Iterator[Reader]:
    """The language model: in actors of a cluster, or in this process with ``runner``.

    Raises:
        UserError: options of a cluster without one.
    """
    if arguments.engine == RAY:
        with RayWorkers(config, arguments.ray_address or "", arguments.actors or 0) as cluster:
            yield cluster
    elif arguments.ray_address or arguments.actors:
        raise UserError(
            Code.OPTIONS_CONFLICT,
            "--ray-address and --actors need --engine ray. Add it, or leave them out.",
        )
    else:
        yield LanguageModel(config, runner)


def check_training(run: RunDir, config: BackboneConfig, runner: str) -> None:
    """Refuse to read test battles otherwise than the run's training battles were.

    A model folder that was moved or renamed is still the same.

    Raises:
        UserError: another backbone, quantization or engine read these.
    """
    trained = run.views / "hidden" / "train.parquet"
    if trained.exists() and read_notes(trained).get("source") != settings_hash(
        evidence_settings(config, runner)
    ):
        raise UserError(
            Code.BACKBONE_DIFFERS,
            f"The training battles of {run.folder} were read by another backbone, quantization or "
            "engine. Leave out --backbone, --quantization and --engine, or extract --train again.",
        )


def make_evidence(
    run: RunDir,
    split: str,
    taken: IngestSummary,
    model: Reader,
    same: bool,
) -> None:
    """Write the views of a split's battles, and what the longest call took for that.

    Args:
        run: the run.
        split: which battles.
        taken: what is known of them.
        model: reads the answers.
        same: whether an earlier call read the same.
    """
    start = time.monotonic()
    write_style(run, split, taken)
    middle, peak = time.monotonic(), peak_mib()
    extract(sound_parts(run, split), taken.valid, model, run.views, split)
    record_costs(
        run,
        same,
        seconds={
            f"style_{split}": round(middle - start, 3),
            f"language_model_{split}": round(time.monotonic() - middle, 3),
        },
        peak_mib={f"style_{split}": round(peak), f"language_model_{split}": round(peak_mib())},
    )


@contextmanager
def opened(files: dict[str, str], limit: int | None) -> Iterator[dict[str, BattleFile]]:
    """The files by split, open."""
    with ExitStack() as stack:
        yield {
            split: stack.enter_context(open_battles(file, labelled=split == "train", limit=limit))
            for split, file in files.items()
        }


@contextmanager
def taken_in(run: RunDir, battles: dict[str, BattleFile]) -> Iterator[dict[str, IngestSummary]]:
    """Write the canonical tables of all splits; they take their places when the context ends."""
    with ExitStack() as stack:
        taken = {}
        for split, file in battles.items():
            taken[split] = found = ingest_file(
                file, stack.enter_context(atomic(run.battles(split)))
            )
            aside = found.rows - found.valid
            print(f"{split}: {found.rows:,} rows of {file.source}, {aside:,} set aside", flush=True)
        yield taken


def print_plan(split: str, battles: BattleFile, config: BackboneConfig, runner: str) -> None:
    """Print what an extraction of a file will read and take."""
    rows = 0

    def parts() -> Iterator[pd.DataFrame]:
        nonlocal rows
        for part in battles.parts():
            rows += len(part)
            yield valid_rows(part)

    found = plan(parts(), config)
    print(f"{split}: {rows:,} rows of {battles.source}, {rows - found.battles:,} set aside")
    cost = estimate_reading(int(found.tokens.sum()), found.longest, config, runner)
    print("\n".join([*found.lines(), *cost]))


def main(arguments: argparse.Namespace) -> None:
    """Read, validate, extract."""
    files = sources(arguments)
    run = run_of(arguments, files)
    record = run.read_record()
    config = backbone(arguments, record)
    runner = engine(arguments, record, config)
    with reading(arguments, config, runner) as model, opened(files, arguments.limit) as battles:
        if arguments.dry_run:
            for split, file in battles.items():
                print_plan(split, file, config, runner)
            return
        run.folder.mkdir(parents=True, exist_ok=True)
        with run.changing("extract.py"):
            if "train" not in files:
                check_training(run, config, runner)
            if run.read_record() != record:
                raise UserError(
                    Code.RUN_CHANGED, f"{run.folder} has changed since. Rerun the command."
                )
            with taken_in(run, battles) as taken:
                asked = asked_backbone(arguments, record)
                record_inputs(run, arguments, files, taken, config, runner, asked)
                write_rejected(run, taken)
            now = run.read_record()
            for split, found in taken.items():
                same = asked_before(record, now, split)
                make_evidence(run, split, found, model, same)
    print(f"evidence in {run.views}; next: python pipelines/train_meta.py --run {run.folder}")


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--train", metavar="FILE", help="battles with votes")
    p.add_argument("--test", metavar="FILE", help="battles to predict")
    p.add_argument("--run", metavar="DIR", help="run directory (runs/<name of the file>)")
    p.add_argument(
        "--backbone",
        metavar="B",
        help=f"name in configs/, YAML file or model folder (the run's own, or {DEFAULT_BACKBONE})",
    )
    p.add_argument("--quantization", choices=("none", "nf4", "int8"), help="overrides the YAML")
    p.add_argument(
        "--engine",
        choices=(*ENGINES, AUTO, RAY),
        help="what runs it; openvino: faster on a CPU, see requirements.txt; auto: openvino where "
        f"it can, else torch; ray: torch, in the actors of a cluster (the run's own, or {TORCH})",
    )
    p.add_argument("--ray-address", metavar="A", help="a Ray cluster, host:port (this machine)")
    p.add_argument(
        "--actors", type=cli.positive, metavar="N", help="models that read (one a GPU or machine)"
    )
    p.add_argument("--limit", type=cli.positive, metavar="N", help="first N rows of each file only")
    p.add_argument("--dry-run", action="store_true", help="print the plan and its cost, do nothing")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
