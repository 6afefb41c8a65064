"""Stage one of a run: battles to the evidence that needs no votes, on disk."""

from __future__ import annotations

import collections
import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext

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
from embeddings.backbone.device import machine
from embeddings.frozen.costs import check_room, extraction_lines
from embeddings.frozen.extract import Reader, extract
from embeddings.frozen.machine import machine_lines
from embeddings.frozen.plan import count_answers, plan
from embeddings.view_kinds import LIKELIHOOD
from tiebreak.extraction_options import HIDDEN, RAY, ExtractionOptions, resolve
from tiebreak.run_record import (
    asked_before,
    record_costs,
    record_inputs,
)


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
    extraction = resolve(run, files, options)
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
                if extraction.options.engine != RAY:
                    run.update_record(machine={"extract": machine(extraction.config)})
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
    extraction = resolve(run, files, options)
    if extraction is not None:
        yield from machine_lines(run.folder, extraction.config)
    answers = 0
    for split, file in files.items():
        usable, counts = map(valid_rows, file.parts()), None
        if extraction is None:
            collections.deque(usable, maxlen=0)
        else:
            counts = plan(usable, extraction.config)
        intake = file.intake
        yield f"{split}: {intake.rows:,} rows of {file.source}, {intake.rejected:,} set aside"
        yield from (f"{split}: {line}" for line in (*intake.lines(), *file.notes()))
        if extraction is None or counts is None:
            yield "  no language model reads them: handcrafted signals alone"
        else:
            answers += len(counts.seen)
            check_room(run.views, answers, extraction.config)
            yield from counts.lines()
            yield from extraction_lines(counts, extraction.config, extraction.engine)


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
