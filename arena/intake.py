"""A file of battles to the canonical table on disk, which need not fit into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pyarrow as pa

from arena.files import scratch
from arena.groups import Groups, group_name
from arena.parquet import read_groups, write_groups
from arena.readers import BattleFile, rejected, sound
from arena.tables import SCHEMA, as_arrow

SAYS = ["id", "key", "label", "reason"]


@dataclass(frozen=True)
class Intake:
    """What a file said.

    Attributes:
        rows: its rows, those set aside among them.
        rejected: those, with the columns row, id, reason.
        content: hash of ids, texts and votes of all rows, in order.
        texts: ``arena.tables.texts_hash`` of the sound rows.
    """

    rows: int
    rejected: pd.DataFrame
    content: str
    texts: str


def take_in(battles: BattleFile, path: Path) -> Intake:
    """Write the battles of a file to ``path``, as ``arena.tables.write_battles`` would.

    Raises:
        UserError: no row of the file can be used.
    """
    content, texts, groups = sha256(), sha256(), Groups()
    aside: list[pd.DataFrame] = []

    def parts() -> Iterator[pa.Table]:
        for part in battles.parts():
            for said in part[SAYS].to_numpy().tolist():
                content.update(json.dumps(list(map(str, said))).encode())
            texts.update("".join(sound(part)["key"]).encode())
            for turns in zip(part["prompt"], part["response_a"], part["response_b"], strict=True):
                groups.add(*turns)
            aside.append(rejected(part))
            yield as_arrow(part)

    # A row's group is known when all rows are.
    with scratch(path.with_name("ungrouped.parquet")) as ungrouped:
        write_groups(ungrouped, parts())
        numbers = groups.numbers()
        write_groups(path, _grouped(ungrouped, list(map(group_name, numbers.tolist()))))
    return Intake(len(numbers), pd.concat(aside), content.hexdigest(), texts.hexdigest()[:16])


def _grouped(path: Path, groups: list[str]) -> Iterator[pa.Table]:
    """The groups of rows of a table without groups, with them."""
    first = 0
    for table in read_groups(path):
        names = pa.array(groups[first : first + len(table)], pa.string())
        first += len(table)
        yield table.set_column(table.schema.get_field_index("group"), "group", names).cast(SCHEMA)
