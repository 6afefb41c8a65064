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
import json
import platform
import sys
import time
from collections.abc import Container
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines import cli

if __name__ == "__main__":
    cli.leave_on_interrupt()

import pandas as pd

import features
from arena import sample
from arena.errors import UserError
from arena.files import atomic
from arena.parquet import read_notes
from arena.processes import peak_mib
from arena.readers import read_battles, rejected
from arena.run import SPLITS, Run
from arena.tables import read_battles_groups, read_battles_table, texts_hash, write_battles
from arena.views import write_views
from embeddings.cluster import Cluster
from embeddings.config import BackboneConfig, load_config
from embeddings.engine import AUTO, ENGINES, TORCH, choose
from embeddings.evidence import Fill, estimate, extract, plan, settings_of
from embeddings.store import settings_hash

DEFAULT_BACKBONE = "smollm2-135m"
RAY = "ray"
REJECTED = ["split", "row", "id", "reason"]
VERSIONS = ("torch", "transformers", "bitsandbytes", "lightgbm", "scikit-learn", "optuna")


def sources(arguments: argparse.Namespace) -> dict[str, str]:
    """The files to read by split; the sample where none is named."""
    named = {s: getattr(arguments, s) for s in SPLITS if getattr(arguments, s)}
    return named or {"train": str(sample.TRAIN), "test": str(sample.TEST)}


def run_of(arguments: argparse.Namespace, files: dict[str, str]) -> Run:
    """The run directory: the one named, else runs/<name of the first file>."""
    if arguments.run:
        return Run(Path(arguments.run))
    if not (arguments.train or arguments.test):
        return Run(Path("runs/sample"))
    name = next(iter(files.values())).rstrip("/").rsplit("/", 1)[-1].split(".")[0]
    return Run(Path("runs") / (name or "unnamed"))


def backbone(arguments: argparse.Namespace, record: dict[str, Any]) -> BackboneConfig:
    """The backbone asked for, else the run's own, else the default.

    Raises:
        UserError: its configuration is not sound.
    """
    before = record.get("backbone")
    asked = arguments.backbone or (before["asked"] if before else DEFAULT_BACKBONE)
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


def read(files: dict[str, str], limit: int | None) -> dict[str, pd.DataFrame]:
    """The canonical tables of all splits."""
    tables = {}
    for split, file in files.items():
        tables[split] = table = read_battles(file, labelled=split == "train", limit=limit)
        aside = int((table["reason"] != "").sum())
        print(f"{split}: {len(table):,} rows of {file}, {aside:,} set aside")
    return tables


def sound(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are not set aside."""
    return table[table["reason"] == ""].reset_index(drop=True)


def write_rejected(run: Run, tables: dict[str, pd.DataFrame]) -> None:
    """Write the rows set aside of these splits; rows of a split that is not given stay."""
    kept = [rejected(table).assign(split=split) for split, table in tables.items()]
    if run.rejected.exists():
        kept.insert(0, rejected_before(run, tables))
    with atomic(run.rejected) as temporary:
        pd.concat(kept)[REJECTED].to_csv(temporary, index=False)


def rejected_before(run: Run, tables: Container[str]) -> pd.DataFrame:
    """The rows set aside of the run's splits that are none of ``tables``."""
    try:
        before = pd.read_csv(run.rejected, dtype=str, keep_default_na=False)
        if list(before.columns) != REJECTED:
            raise ValueError("its columns are others")
        return before[[split not in tables for split in before["split"]]]
    except ValueError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"{run.rejected} is damaged ({reason}): made again", file=sys.stderr)
        others = [s for s in SPLITS if s not in tables and run.battles(s).exists()]
        kept = [rejected(read_battles_table(run.battles(s))).assign(split=s) for s in others]
        return pd.concat([pd.DataFrame(columns=REJECTED), *kept])


def content(table: pd.DataFrame) -> str:
    """Hash of what a file said: ids, texts and votes of all rows, in order."""
    h = hashlib.sha256()
    for entry in zip(table["id"], table["key"], table["label"], table["reason"], strict=True):
        h.update(json.dumps(list(map(str, entry))).encode())
    return h.hexdigest()


def code() -> str:
    """Hash of the project's own sources, by which a run can be traced to what made it."""
    root = Path(__file__).resolve().parents[1]
    h = hashlib.sha256()
    for room in ("arena", "features", "embeddings", "meta", "pipelines"):
        for path in sorted((root / room).rglob("*.py")):
            h.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return h.hexdigest()[:16]


def write_style(run: Run, split: str, table: pd.DataFrame) -> None:
    """Make the handcrafted view, unless it stands already for this text and this code."""
    path = run.views / "style" / f"{split}.parquet"

    def stamp() -> str:
        # A changed byte, which parquet's checksums of pages may miss, makes it anew too.
        with path.open("rb") as file:
            written = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{features.FINGERPRINT} {content(table)} {written}"

    texts = texts_hash(table)
    stands = path.exists() and run.read_record().get("style", {}).get(split) == stamp()
    # A view of before there was that note has none.
    if stands and read_notes(path).get("battles") == texts:
        print(f"{split}: handcrafted signals stand already")
        return
    # From the disk, group by group: neither all battles' texts nor all values are held once more.
    parts = (sound(part) for part in read_battles_groups(run.battles(split)))
    write_views(path, features.stream(parts, len(table)), texts)
    run.update_record(style={split: stamp()})


def record_inputs(
    run: Run,
    arguments: argparse.Namespace,
    files: dict[str, str],
    tables: dict[str, pd.DataFrame],
    config: BackboneConfig,
    runner: str,
) -> None:
    """Write what was asked, of what, by which code, into ``run.json``."""
    before = run.read_record().get("backbone", {}).get("asked", DEFAULT_BACKBONE)
    run.update_record(
        inputs={
            s: {
                "file": f,
                "rows": len(tables[s]),
                "sha256": content(tables[s]),
                "sample": not getattr(arguments, s),
            }
            for s, f in files.items()
        },
        backbone={
            "asked": str(arguments.backbone or before),
            "quantization": config.quantization,
            "engine": runner,
            "config": as_json(config),
        },
        code=code(),
        versions={"python": platform.python_version(), **{p: version(p) for p in VERSIONS}},
    )


def as_json(config: BackboneConfig) -> Any:
    """A configuration as ``run.json`` gives it back."""
    return json.loads(json.dumps(asdict(config)))


def reader(arguments: argparse.Namespace) -> Fill | None:
    """What reads with the language model: actors of a cluster, or this process (``None``).

    Raises:
        UserError: options of a cluster without one.
    """
    if arguments.engine == RAY:
        return Cluster(arguments.ray_address or "", arguments.actors or 0).fill
    if arguments.ray_address or arguments.actors:
        raise UserError(
            "--ray-address and --actors go with --engine ray: add it, or leave them out"
        )
    return None


def check_training(run: Run, config: BackboneConfig, runner: str) -> None:
    """Refuse to read test battles otherwise than the run's training battles were.

    A model folder that was moved or renamed is still the same.

    Raises:
        UserError: another backbone, quantization or engine read these.
    """
    trained = run.views / "hidden" / "train.parquet"
    if trained.exists() and read_notes(trained).get("source") != settings_hash(
        settings_of(config, runner)
    ):
        raise UserError(
            f"the training battles of {run.folder} were read by another backbone, quantization or "
            "engine: leave out --backbone, --quantization and --engine, or extract --train again"
        )


def make_evidence(
    run: Run,
    split: str,
    table: pd.DataFrame,
    config: BackboneConfig,
    runner: str,
    read: Fill | None,
) -> None:
    """Write the battles of a split and their views."""
    start = time.monotonic()
    write_battles(run.battles(split), table)
    usable = sound(table)
    write_style(run, split, usable)
    middle, peak = time.monotonic(), peak_mib()
    extract([usable], len(usable), config, run.views, split, runner, read)
    run.update_record(
        seconds={
            f"style_{split}": round(middle - start, 3),
            f"language_model_{split}": round(time.monotonic() - middle, 3),
        },
        peak_mib={f"style_{split}": round(peak), f"language_model_{split}": round(peak_mib())},
    )


def main(arguments: argparse.Namespace) -> None:
    """Read, validate, extract."""
    read_by = reader(arguments)
    files = sources(arguments)
    run = run_of(arguments, files)
    record = run.read_record()
    config = backbone(arguments, record)
    runner = engine(arguments, record, config)
    tables = read(files, arguments.limit)
    if arguments.dry_run:
        for split, table in tables.items():
            found = plan([sound(table)], config)
            print("\n".join([f"{split}:", *found.lines(), *estimate(found, config, runner)]))
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    with run.changing("extract.py"):
        if "train" not in files:
            check_training(run, config, runner)
        if run.read_record() != record:
            raise UserError(f"{run.folder} has changed since: give the same command again")
        record_inputs(run, arguments, files, tables, config, runner)
        write_rejected(run, tables)
        for split, table in tables.items():
            make_evidence(run, split, table, config, runner, read_by)
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
