"""A file of battles to the canonical table on disk, which need not fit into memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Container, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pyarrow as pa

from arena.battle_table import SCHEMA, TextsHash, as_arrow, read_battles_groups
from arena.folds import Groups
from arena.reader import BattleFile, rejected_rows, valid_rows
from common.files import atomic, scratch
from common.parquet import read_groups, write_groups
from common.run_dir import SPLITS, RunDir

REJECTED = ["split", "row", "id", "reason"]

HASHED = ["id", "key", "label", "reason"]
"""The columns that make up the hash of a file's content."""


@dataclass(frozen=True)
class IngestSummary:
    """What a file holds.

    Attributes:
        rows: number of its rows, rejected ones included.
        rejected: the rows set aside, with the columns row, id, reason.
        content: hash of ids, texts and votes of all rows, in order.
        texts: ``arena.battle_table.texts_hash`` of the valid rows.
        layout: layout of the file, several parted by blanks.
        lines: what people should know: votes, reasons, what is not read.
    """

    rows: int
    rejected: pd.DataFrame
    content: str
    texts: str
    layout: str
    lines: list[str]

    @property
    def valid(self) -> int:
        """Number of rows that can be used."""
        return self.rows - len(self.rejected)


def ingest_file(battles: BattleFile, path: Path) -> IngestSummary:
    """Write the battles of a file to ``path``, as ``arena.battle_table.write_battles`` would.

    Raises:
        UserError: no row of the file can be used.
    """
    content, texts, groups = sha256(), TextsHash(), Groups()
    rejected: list[pd.DataFrame] = []

    def parts() -> Iterator[pa.Table]:
        for part in battles.parts():
            for cells in part[HASHED].to_numpy().tolist():
                content.update(json.dumps(list(map(str, cells))).encode())
            content.update(_extras(part))
            texts.add(valid_rows(part))
            groups.add(part)
            rejected.append(rejected_rows(part))
            yield as_arrow(part)

    # Later rows may join groups, so the groups are known after the last row.
    with scratch(path.with_name("ungrouped.parquet")) as ungrouped:
        write_groups(ungrouped, parts())
        names = groups.names()
        write_groups(path, _grouped(ungrouped, names))
    lines = [*battles.intake.lines(), *battles.notes()]
    if groups.ids_repeat:
        join = "share a group" if groups.ids_join else "share no group: they name no question"
        lines.append(f"ids: rows of one id {join}")
    return IngestSummary(
        len(names),
        pd.concat(rejected),
        content.hexdigest(),
        texts.digest(),
        battles.layout,
        lines,
    )


def _extras(part: pd.DataFrame) -> bytes:
    """What a file says beyond texts and votes; nothing for a file that says no more."""
    extras = [*zip(part["soft_label"], part["weight"], part["group"], strict=True)]
    if all(extra == (None, 1.0, "") for extra in extras):
        return b""
    return json.dumps(extras).encode()


def _grouped(path: Path, groups: list[str]) -> Iterator[pa.Table]:
    """The row groups of a table, with the names of their groups in place of the file's own."""
    first = 0
    for table in read_groups(path):
        names = pa.array(groups[first : first + len(table)], pa.string())
        first += len(table)
        yield table.set_column(table.schema.get_field_index("group"), "group", names).cast(SCHEMA)


def write_rejected(run: RunDir, summaries: dict[str, IngestSummary]) -> None:
    """Write the rejected rows of these splits; the rows of other splits stay in the file."""
    tables = [summary.rejected.assign(split=split) for split, summary in summaries.items()]
    if run.rejected.exists():
        tables.insert(0, rejected_of_others(run, summaries))
    with atomic(run.rejected) as temporary:
        pd.concat(tables)[REJECTED].to_csv(temporary, index=False)


def rejected_of_others(run: RunDir, splits: Container[str]) -> pd.DataFrame:
    """The rejected rows of the run's splits other than ``splits``."""
    try:
        table = pd.read_csv(run.rejected, dtype=str, keep_default_na=False)
        if list(table.columns) != REJECTED:
            raise ValueError("it has other columns")
        return table[[split not in splits for split in table["split"]]]
    except ValueError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"{run.rejected} is damaged ({reason}): it is written anew", file=sys.stderr)
        others = [s for s in SPLITS if s not in splits and run.battles(s).exists()]
        tables = [
            rejected_rows(part).assign(split=s)
            for s in others
            for part in read_battles_groups(run.battles(s))
        ]
        return pd.concat([pd.DataFrame(columns=REJECTED), *tables])
