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
from arena.reader import BattleFile, rejected, valid_rows
from common.files import atomic, scratch
from common.parquet import read_groups, write_groups
from common.run_dir import SPLITS, RunDir

REJECTED = ["split", "row", "id", "reason"]

SAYS = ["id", "key", "label", "reason"]


@dataclass(frozen=True)
class IngestSummary:
    """What a file said.

    Attributes:
        rows: its rows, those set aside among them.
        rejected: those, with the columns row, id, reason.
        content: hash of ids, texts and votes of all rows, in order.
        texts: ``arena.battle_table.texts_hash`` of the valid rows.
    """

    rows: int
    rejected: pd.DataFrame
    content: str
    texts: str

    @property
    def valid(self) -> int:
        """How many rows are not set aside."""
        return self.rows - len(self.rejected)


def ingest_file(battles: BattleFile, path: Path) -> IngestSummary:
    """Write the battles of a file to ``path``, as ``arena.battle_table.write_battles`` would.

    Raises:
        UserError: no row of the file can be used.
    """
    content, texts, groups = sha256(), TextsHash(), Groups()
    aside: list[pd.DataFrame] = []

    def parts() -> Iterator[pa.Table]:
        for part in battles.parts():
            for said in part[SAYS].to_numpy().tolist():
                content.update(json.dumps(list(map(str, said))).encode())
            texts.add(valid_rows(part))
            groups.add(part)
            aside.append(rejected(part))
            yield as_arrow(part)

    # A row's group is known when all rows are.
    with scratch(path.with_name("ungrouped.parquet")) as ungrouped:
        write_groups(ungrouped, parts())
        names = groups.names()
        write_groups(path, _grouped(ungrouped, names))
    return IngestSummary(len(names), pd.concat(aside), content.hexdigest(), texts.digest())


def _grouped(path: Path, groups: list[str]) -> Iterator[pa.Table]:
    """The groups of rows of a table without groups, with them."""
    first = 0
    for table in read_groups(path):
        names = pa.array(groups[first : first + len(table)], pa.string())
        first += len(table)
        yield table.set_column(table.schema.get_field_index("group"), "group", names).cast(SCHEMA)


def write_rejected(run: RunDir, taken: dict[str, IngestSummary]) -> None:
    """Write the rows set aside of these splits; rows of a split that is not given stay."""
    kept = [found.rejected.assign(split=split) for split, found in taken.items()]
    if run.rejected.exists():
        kept.insert(0, rejected_before(run, taken))
    with atomic(run.rejected) as temporary:
        pd.concat(kept)[REJECTED].to_csv(temporary, index=False)


def rejected_before(run: RunDir, taken: Container[str]) -> pd.DataFrame:
    """The rows set aside of the run's splits that are none of ``taken``."""
    try:
        before = pd.read_csv(run.rejected, dtype=str, keep_default_na=False)
        if list(before.columns) != REJECTED:
            raise ValueError("its columns are others")
        return before[[split not in taken for split in before["split"]]]
    except ValueError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"{run.rejected} is damaged ({reason}): made again", file=sys.stderr)
        others = [s for s in SPLITS if s not in taken and run.battles(s).exists()]
        kept = [
            rejected(part).assign(split=s)
            for s in others
            for part in read_battles_groups(run.battles(s))
        ]
        return pd.concat([pd.DataFrame(columns=REJECTED), *kept])
