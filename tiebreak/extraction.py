"""Stage one of a run: battles to the evidence that needs no votes, on disk."""

from __future__ import annotations

import collections
import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pandas as pd

import features
from arena.battle_table import read_battles_groups
from arena.feature_table import write_feature_tables
from arena.ingest import IngestSummary, ingest_file, write_rejected
from arena.reader import BattleFile, valid_rows
from arena.view import KINDS, STYLE
from common.errors import Code, UserError
from common.files import atomic
from common.parallel import peak_mib
from common.parquet import read_notes
from common.run_dir import RunDir
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import check_device
from embeddings.backbone.runtime import TORCH, select_engine
from embeddings.cache.shards import settings_hash
from embeddings.frozen.answer_reader import evidence_settings
from embeddings.frozen.costs import check_room, extraction_lines
from embeddings.frozen.extract import Reader, extract
from embeddings.frozen.language_model import LanguageModel
from embeddings.frozen.plan import count_answers, plan
from embeddings.frozen.ray_workers import RayWorkers
from embeddings.view_kinds import LIKELIHOOD
from meta.stack import model_io
from tiebreak.run_record import (
    as_json,
    asked_before,
    chosen_backbone,
    record_costs,
    record_inputs,
)

RAY = "ray"

HIDDEN = "hidden"
"""The folder of the states that a language model has read."""


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
    language_model: bool = True
    """Whether a language model reads the answers; else there are handcrafted signals alone."""

    @property
    def names_model(self) -> bool:
        """Whether something is said of the language model."""
        return any((self.backbone, self.quantization, self.engine, self.ray_address, self.actors))


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

    def check_device(self) -> None:
        """Say what will be slow on this machine's card.

        Raises:
            UserError: PyTorch cannot use it.
        """
        # The actors' machines have cards of their own.
        if self.options.engine != RAY:
            for note in check_device(self.config):
                print(note, flush=True)

    def entry(self) -> dict[str, Any]:
        """The entry ``backbone`` of run.json."""
        return {
            "asked": self.backbone,
            "quantization": self.config.quantization,
            "engine": self.engine,
            "config": as_json(self.config),
        }

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


def takes_language_model(view: str) -> bool:
    """Whether a view may come from a language model; of a name that no kind has it may."""
    kind = KINDS.get(view)
    return kind is None or kind.architecture in ("frozen", "fine-tuned")


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
        UserError: a file is of no use, the backbone cannot be had or run here, the disk is too
            small, or the run is in use.
    """
    record = run.read_record()
    extraction = _resolved(run, files, options)
    with extraction.reader() if extraction else nullcontext() as model:
        run.folder.mkdir(parents=True, exist_ok=True)
        with run.changing(command):
            if run.read_record() != record:
                raise UserError(Code.RUN_CHANGED, f"{run.folder} has changed. Rerun this command.")
            with _ingested(run, files) as summaries:
                record_inputs(
                    run,
                    summaries,
                    {split: file.source for split, file in files.items()},
                    extraction.entry() if extraction else None,
                )
                write_rejected(run, summaries)
            if extraction:
                answers = sum(count_answers(_valid_parts(run, split)) for split in summaries)
                check_room(run.views, answers, extraction.config)
            now = run.read_record()
            for split, summary in summaries.items():
                same = asked_before(record, now, split)
                _write_views(run, split, summary, model, same)


def plan_run(
    run: RunDir, files: Mapping[str, BattleFile], options: ExtractionOptions
) -> Iterator[str]:
    """What :func:`extract_run` would read and take, line by line for people; it checks the same.

    Raises:
        UserError: as :func:`extract_run`, before it reads.
    """
    extraction = _resolved(run, files, options)
    answers = 0
    for split, file in files.items():
        rows = valid = 0

        def parts(file: BattleFile = file) -> Iterator[pd.DataFrame]:
            nonlocal rows, valid
            for part in file.parts():
                usable = valid_rows(part)
                rows, valid = rows + len(part), valid + len(usable)
                yield usable

        counts = None
        if extraction is None:
            collections.deque(parts(), maxlen=0)
        else:
            counts = plan(parts(), extraction.config)
        yield f"{split}: {rows:,} rows of {file.source}, {rows - valid:,} set aside"
        yield from (f"{split}: {line}" for line in (*file.intake.lines(), *file.notes()))
        if extraction is None or counts is None:
            yield "  no language model reads them: handcrafted signals alone"
        else:
            answers += len(counts.seen)
            check_room(run.views, answers, extraction.config)
            yield from counts.lines()
            yield from extraction_lines(counts, extraction.config, extraction.engine)


def _resolved(
    run: RunDir, files: Mapping[str, BattleFile], options: ExtractionOptions
) -> Extraction | None:
    """How a language model will read, ``None`` where none does; checked before anything is read.

    Test battles are read as the run's training battles were.

    Raises:
        UserError: options do not go together, the backbone cannot be had or run here, or the test
            battles would lack what the training battles have.
    """
    record = run.read_record()
    test_only = "train" not in files
    if not options.language_model:
        if options.names_model:
            raise UserError(
                Code.OPTIONS_CONFLICT,
                "--no-language-model goes with no option of a language model. Leave out "
                "--backbone, --quantization, --engine, --ray-address and --actors.",
            )
        if test_only and (run.views / HIDDEN / "train.parquet").exists():
            _check_model_does_without(run)
        return None
    if test_only and run.battles("train").exists() and "backbone" not in record:
        if options.names_model:
            raise UserError(
                Code.OPTIONS_CONFLICT,
                f"No language model has read the training battles of {run.folder}. Extract --train "
                "with one, or leave these options out.",
            )
        print("no language model has read the training battles, so none reads the test battles")
        return None
    extraction = Extraction.of(options, record)
    extraction.check_device()
    if test_only:
        _check_training(run, extraction)
    return extraction


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
    model: Reader | None,
    same: bool,
) -> None:
    """Write the views of a split's battles, and what the longest call took for that.

    Args:
        run: the run.
        split: which battles.
        summary: what is known of them.
        model: reads the answers; ``None``: nothing does.
        same: whether an earlier call read the same.
    """
    start = time.monotonic()
    _write_style(run, split, summary)
    middle = time.monotonic()
    seconds = {f"style_{split}": round(middle - start, 3)}
    peak: dict[str, float] = {f"style_{split}": round(peak_mib())}
    if model is None:
        _remove_outdated(run, split, summary)
    else:
        extract(_valid_parts(run, split), summary.valid, model, run.views, split)
        seconds[f"language_model_{split}"] = round(time.monotonic() - middle, 3)
        peak[f"language_model_{split}"] = round(peak_mib())
    record_costs(run, same, seconds=seconds, peak_mib=peak)


def _remove_outdated(run: RunDir, split: str, summary: IngestSummary) -> None:
    """Remove what a language model said of other battles of a split; what it read stays stored."""
    for name in (HIDDEN, LIKELIHOOD.name):
        path = run.views / name / f"{split}.parquet"
        if path.exists() and read_notes(path).get("battles") != summary.texts:
            print(f"{split}: view {name} is of other battles, and no language model reads: removed")
            path.unlink()


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


def _check_model_does_without(run: RunDir) -> None:
    """Refuse to read test battles without a language model where the run's model takes one.

    Raises:
        UserError: it does, or there is no model yet, and the training battles have such views.
    """
    views = model_io.load(run.model).views if run.model_hash() else (LIKELIHOOD.name,)
    if any(map(takes_language_model, views)):
        raise UserError(
            Code.OPTIONS_CONFLICT,
            f"A language model has read the training battles of {run.folder}, and must read its "
            "test battles, too. Leave out --no-language-model, or name another --run.",
        )


def _check_training(run: RunDir, extraction: Extraction) -> None:
    """Refuse to read test battles otherwise than the run's training battles were.

    A model folder that was moved or renamed is still the same.

    Raises:
        UserError: another backbone, quantization or engine read these.
    """
    path = run.views / HIDDEN / "train.parquet"
    if path.exists() and read_notes(path).get("source") != settings_hash(
        evidence_settings(extraction.config, extraction.engine)
    ):
        raise UserError(
            Code.BACKBONE_DIFFERS,
            f"The training battles of {run.folder} were read by another backbone, quantization or "
            "engine. Leave out --backbone, --quantization and --engine, or extract --train again.",
        )
