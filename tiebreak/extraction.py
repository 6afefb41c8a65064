"""Stage one of a run: battles to the evidence that needs no votes, on disk."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd

import features
from arena.battle_table import read_battles_groups
from arena.feature_table import write_feature_tables
from arena.ingest import IngestSummary, ingest_file, write_rejected
from arena.reader import BattleFile, valid_rows
from arena.view import STYLE
from common.errors import Code, UserError
from common.files import atomic
from common.parallel import peak_mib
from common.parquet import read_notes
from common.run_dir import RunDir
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.runtime import TORCH, select_engine
from embeddings.cache.shards import settings_hash
from embeddings.frozen.answer_reader import evidence_settings
from embeddings.frozen.costs import extraction_lines
from embeddings.frozen.extract import Reader, extract
from embeddings.frozen.language_model import LanguageModel
from embeddings.frozen.plan import plan
from embeddings.frozen.ray_workers import RayWorkers
from tiebreak.run_record import (
    as_json,
    asked_before,
    chosen_backbone,
    record_costs,
    record_inputs,
)

RAY = "ray"


@dataclass(frozen=True)
class ExtractionOptions:
    """How battles are read; what is ``None`` is as the run had it before, else the default."""

    backbone: str | None = None
    """A name in ``configs/``, a YAML file or a model folder."""
    quantization: str | None = None
    engine: str | None = None
    """``torch``, ``openvino``, ``auto``, or ``ray``: torch in the actors of a cluster."""
    ray_address: str = ""
    """A Ray cluster, host:port; "" for this machine."""
    actors: int = 0
    """Models that read; 0 for one a GPU or machine."""


@dataclass(frozen=True)
class Extraction:
    """The options of an extraction, resolved against the run's record."""

    backbone: str
    config: BackboneConfig
    engine: str
    options: ExtractionOptions

    @classmethod
    def of(cls, options: ExtractionOptions, record: Mapping[str, Any]) -> Extraction:
        """Resolve the options.

        Raises:
            UserError: the backbone's configuration is not valid, or OpenVINO cannot run it here.
        """
        backbone, config = chosen_backbone(options.backbone, options.quantization, record)
        own = record.get("backbone", {})
        last = own.get("engine", TORCH) if as_json(config) == own.get("config") else TORCH
        # Ray's actors read with torch, to the same bytes.
        named = TORCH if options.engine == RAY else options.engine
        engine, note = select_engine(named or last, config)
        if note:
            print(note)
        return cls(backbone, config, engine, options)

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """What reads with the language model: actors of a cluster, or this process.

        Raises:
            UserError: options of a cluster without one.
        """
        options = self.options
        if options.engine == RAY:
            with RayWorkers(self.config, options.ray_address, options.actors) as workers:
                yield workers
        elif options.ray_address or options.actors:
            raise UserError(
                Code.OPTIONS_CONFLICT,
                "--ray-address and --actors need --engine ray. Add it, or leave them out.",
            )
        else:
            yield LanguageModel(self.config, self.engine)


def extract_run(
    run: RunDir, files: Mapping[str, BattleFile], options: ExtractionOptions, command: str
) -> None:
    """Read, validate and extract the battles of one split or both.

    Killed at any moment, the same call goes on where it stopped.

    Args:
        run: the run; made where it is not there.
        files: the open files by split.
        options: how they are read.
        command: who works on the run, for people.

    Raises:
        UserError: a file is of no use, the backbone cannot be had, or the run is in use.
    """
    record = run.read_record()
    extraction = Extraction.of(options, record)
    with extraction.reader() as model:
        run.folder.mkdir(parents=True, exist_ok=True)
        with run.changing(command):
            if "train" not in files:
                _check_training(run, extraction)
            if run.read_record() != record:
                raise UserError(Code.RUN_CHANGED, f"{run.folder} has changed. Rerun this command.")
            with _ingested(run, files) as summaries:
                record_inputs(
                    run,
                    summaries,
                    {split: file.source for split, file in files.items()},
                    extraction.backbone,
                    extraction.config,
                    extraction.engine,
                )
                write_rejected(run, summaries)
            now = run.read_record()
            for split, summary in summaries.items():
                same = asked_before(record, now, split)
                _write_views(run, split, summary, model, same)


def plan_lines(split: str, file: BattleFile, extraction: Extraction) -> list[str]:
    """What an extraction of a file will read and take, as lines for people."""
    rows = 0

    def parts() -> Iterator[pd.DataFrame]:
        nonlocal rows
        for part in file.parts():
            rows += len(part)
            yield valid_rows(part)

    counts = plan(parts(), extraction.config)
    return [
        f"{split}: {rows:,} rows of {file.source}, {rows - counts.battles:,} set aside",
        *(f"{split}: {line}" for line in (*file.intake.lines(), *file.notes())),
        *counts.lines(),
        *extraction_lines(counts, extraction.config, extraction.engine),
    ]


@contextmanager
def _ingested(run: RunDir, files: Mapping[str, BattleFile]) -> Iterator[dict[str, IngestSummary]]:
    """Write the canonical tables of all splits; they take their places when the context ends."""
    with ExitStack() as stack:
        summaries = {}
        for split, file in files.items():
            path = stack.enter_context(atomic(run.battles(split)))
            summaries[split] = summary = ingest_file(file, path)
            aside = summary.rows - summary.valid
            print(f"{split}: {summary.rows:,} rows of {file.source}, {aside:,} set aside")
            print("".join(f"{split}: {line}\n" for line in summary.lines), end="")
        yield summaries


def _write_views(
    run: RunDir,
    split: str,
    summary: IngestSummary,
    model: Reader,
    same: bool,
) -> None:
    """Write the views of a split's battles, and what the longest call took for that.

    Args:
        run: the run.
        split: which battles.
        summary: what is known of them.
        model: reads the answers.
        same: whether an earlier call read the same.
    """
    start = time.monotonic()
    _write_style(run, split, summary)
    middle, peak = time.monotonic(), peak_mib()
    extract(_valid_parts(run, split), summary.valid, model, run.views, split)
    record_costs(
        run,
        same,
        seconds={
            f"style_{split}": round(middle - start, 3),
            f"language_model_{split}": round(time.monotonic() - middle, 3),
        },
        peak_mib={f"style_{split}": round(peak), f"language_model_{split}": round(peak_mib())},
    )


def _valid_parts(run: RunDir, split: str) -> Iterator[pd.DataFrame]:
    """The valid battles of a split from disk, so that they need not fit into memory."""
    return map(valid_rows, read_battles_groups(run.battles(split)))


def _write_style(run: RunDir, split: str, summary: IngestSummary) -> None:
    """Compute the handcrafted view, unless it was computed from this text by this code."""
    path = run.views / STYLE.name / f"{split}.parquet"

    def stamp() -> str:
        # A changed byte, which parquet's checksums of pages may miss, makes it anew too.
        with path.open("rb") as file:
            written = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{features.FINGERPRINT} {summary.content} {written}"

    recorded = path.exists() and run.read_record().get("style", {}).get(split) == stamp()
    if recorded and read_notes(path).get("battles") == summary.texts:
        print(f"{split}: handcrafted signals stand already")
        return
    tables = features.stream(_valid_parts(run, split), summary.valid)
    write_feature_tables(path, tables, summary.texts, kind=STYLE.name)
    run.update_record(style={split: stamp()})


def _check_training(run: RunDir, extraction: Extraction) -> None:
    """Refuse to read test battles otherwise than the run's training battles were.

    A model folder that was moved or renamed is still the same.

    Raises:
        UserError: another backbone, quantization or engine read these.
    """
    path = run.views / "hidden" / "train.parquet"
    if path.exists() and read_notes(path).get("source") != settings_hash(
        evidence_settings(extraction.config, extraction.engine)
    ):
        raise UserError(
            Code.BACKBONE_DIFFERS,
            f"The training battles of {run.folder} were read by another backbone, quantization or "
            "engine. Leave out --backbone, --quantization and --engine, or extract --train again.",
        )
